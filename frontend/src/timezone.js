const YEAR_SECONDS = 365 * 24 * 3600;

/** Tells the server the reader's time zone, from the next page on. */
export function tellTimeZone() {
  const { timeZone } = new Intl.DateTimeFormat().resolvedOptions();
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `timezone=${timeZone}; Path=/; Max-Age=${YEAR_SECONDS}; SameSite=Lax${secure}`;
}
