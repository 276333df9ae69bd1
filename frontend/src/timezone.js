const YEAR_SECONDS = 365 * 24 * 3600;

/** Tells the server, from the next page on, in which time zone its times are read. */
export function tellTimeZone() {
  const { timeZone } = new Intl.DateTimeFormat().resolvedOptions();
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `timezone=${timeZone}; Path=/; Max-Age=${YEAR_SECONDS}; SameSite=Lax${secure}`;
}
