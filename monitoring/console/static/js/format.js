/**
 * Numbers and times for people.
 *
 * Rule 1. What is not known is a dash, never a zero.
 * Rule 2. A time says which clock it is of: event time is UTC, wall time is this browser's.
 */
const DASH = "–";
const LOCALE = "en-GB";

const memo = new Map();
function numbers(digits) {
  if (!memo.has(digits)) {
    memo.set(digits, new Intl.NumberFormat(LOCALE, { maximumFractionDigits: digits, minimumFractionDigits: digits }));
  }
  return memo.get(digits);
}

export const known = (value) => value !== null && value !== undefined && !Number.isNaN(value);
export const count = (value) => (known(value) ? numbers(0).format(value) : DASH);
export const number = (value, digits = 2) => (known(value) ? numbers(digits).format(value) : DASH);
export const share = (value, digits = 1) => (known(value) ? `${numbers(digits).format(value * 100)} %` : DASH);
export const score = (value) => (known(value) ? numbers(3).format(value) : DASH);

export function money(minor, currency = "EUR", digits = 2) {
  if (!known(minor)) return DASH;
  const sign = currency === "EUR" ? "€" : `${currency} `;
  return `${minor < 0 ? "−" : ""}${sign}${numbers(digits).format(Math.abs(minor) / 100)}`;
}

export function rate(value) {
  if (!known(value)) return DASH;
  return numbers(value < 10 ? 1 : 0).format(value);
}

/** Seconds as the unit that a person would say. */
export function duration(seconds) {
  if (!known(seconds)) return DASH;
  const size = Math.abs(seconds);
  if (size === 0) return "0 s";
  if (size < 1) return `${numbers(size < 0.01 ? 1 : 0).format(seconds * 1000)} ms`;
  if (size < 120) return `${numbers(size < 10 ? 1 : 0).format(seconds)} s`;
  if (size < 7200) return `${numbers(0).format(seconds / 60)} min`;
  if (size < 172800) return `${numbers(1).format(seconds / 3600)} h`;
  return `${numbers(1).format(seconds / 86400)} d`;
}

export function bytes(value) {
  if (!known(value)) return DASH;
  return value >= 1e9 ? `${numbers(1).format(value / 1e9)} GB` : `${numbers(0).format(value / 1e6)} MB`;
}

const iso = (ms) => new Date(ms).toISOString();
export const eventDay = (ms) => (known(ms) ? iso(ms).slice(0, 10) : DASH);
export const eventTime = (ms) => (known(ms) ? iso(ms).slice(11, 19) : DASH);
export const eventMoment = (ms) => (known(ms) ? `${iso(ms).slice(0, 10)} ${iso(ms).slice(11, 19)}` : DASH);
export const eventMinute = (ms) => (known(ms) ? `${iso(ms).slice(0, 10)} ${iso(ms).slice(11, 16)}` : DASH);
export function wallTime(ms) {
  return known(ms) ? new Date(Number(ms)).toLocaleTimeString(LOCALE, { hour12: false }) : DASH;
}

/** A feature's value with its unit. */
export function feature(value, unit) {
  if (!known(value)) return "no value";
  if (unit === "minor units") return money(value);
  if (unit === "share") return share(value);
  if (unit === "s") return duration(value);
  if (unit === "0 or 1") return value ? "yes" : "no";
  if (unit.startsWith("hour")) return `${numbers(0).format(value)}:00 UTC`;
  if (unit.startsWith("day,")) return ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"][value] ?? String(value);
  const digits = Number.isInteger(value) ? 0 : Math.abs(value) < 10 ? 2 : 1;
  const shown = numbers(digits).format(value);
  return unit === "ratio" ? `${shown}×` : unit ? `${shown} ${unit === "standard deviations" ? "σ" : unit}` : shown;
}
