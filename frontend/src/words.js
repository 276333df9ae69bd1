// The page has its messages in the reader's language; this only fills in values.

const language = document.documentElement.lang;
const UNITS = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];

/** The messages in `<template id="words">` by `data-word`, with their {placeholders} filled in. */
export function say(word, values = {}) {
  const found = document.getElementById("words").content.querySelector(`[data-word="${word}"]`);
  return fill(found.textContent.trim(), values);
}

export function fill(pattern, values) {
  return pattern.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

export function percent(fraction) {
  return new Intl.NumberFormat(language, { style: "percent" }).format(fraction);
}

/** A size in the form of the pages: 1 MB is 1024 KB. */
export function size(bytes) {
  const step = bytes < 1024 ? 0 : Math.min(Math.floor(Math.log(bytes) / Math.log(1024)), UNITS.length - 1);
  const format = { style: "unit", unit: UNITS[step], unitDisplay: step ? "short" : "long" };
  const digits = { minimumFractionDigits: step ? 1 : 0, maximumFractionDigits: step ? 1 : 0 };
  // The short form of kilobyte is kB there; pages write a capital.
  return new Intl.NumberFormat(language, { ...format, ...digits }).format(bytes / 1024 ** step).replace("kB", "KB");
}

/** A rounded duration in one unit: "40 seconds", "3 minutes", "2.5 hours". */
export function duration(seconds) {
  const [unit, length] = [
    ["day", 86_400],
    ["hour", 3600],
    ["minute", 60],
  ].find(([, length]) => seconds >= length * 1.5) ?? ["second", 1];
  const format = { style: "unit", unit, unitDisplay: "long", maximumFractionDigits: length >= 3600 ? 1 : 0 };
  return new Intl.NumberFormat(language, format).format(Math.max(1, seconds / length));
}

export function moment(date) {
  return new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" }).format(date);
}
