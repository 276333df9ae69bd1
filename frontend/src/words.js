// What a person reads is written in the page, in the person's language; here it only gets its values.

const language = document.documentElement.lang;
const UNITS = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];

/** The words that the page's `<template id="words">` holds under `data-word`, with their {placeholders} filled in. */
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

/** A size as the pages write it: 1 MB is 1024 KB. */
export function size(bytes) {
  const step = bytes < 1024 ? 0 : Math.min(Math.floor(Math.log(bytes) / Math.log(1024)), UNITS.length - 1);
  const format = { style: "unit", unit: UNITS[step], unitDisplay: step ? "short" : "long" };
  const digits = { minimumFractionDigits: step ? 1 : 0, maximumFractionDigits: step ? 1 : 0 };
  // Short for kilobyte is kB there, which the pages write with a capital.
  return new Intl.NumberFormat(language, { ...format, ...digits }).format(bytes / 1024 ** step).replace("kB", "KB");
}
