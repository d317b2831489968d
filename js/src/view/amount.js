/** Amounts as a person reads them. Decimal units, as disks and downloads are named. */

const UNITS = ["B", "kB", "MB", "GB"];

/** @param {number} bytes @returns {[number, string]} the divisor and the unit's name */
function unitOf(bytes) {
    const power = bytes < 1000 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log10(bytes) / 3));
    return [1000 ** power, UNITS[power]];
}

/** @param {number} value @param {string} unit */
function digits(value, unit) {
    return unit === "B" ? String(value) : value.toFixed(value < 100 ? 1 : 0);
}

/** @param {number} bytes */
export function formatBytes(bytes) {
    const [divisor, unit] = unitOf(bytes);
    return `${digits(bytes / divisor, unit)} ${unit}`;
}

/** "3.2 of 4.6 MB": both in the unit of the whole. @param {number} loaded @param {number | null} total */
export function formatProgress(loaded, total) {
    if(total === null) return formatBytes(loaded);
    const [divisor, unit] = unitOf(total);
    return `${digits(loaded / divisor, unit)} of ${digits(total / divisor, unit)} ${unit}`;
}

/** @param {number} mips */
export function formatSpeed(mips) {
    return `${mips < 10 ? mips.toFixed(1) : Math.round(mips)} MIPS`;
}

/** The time of day of a checkpoint, with the day when it was not today. @param {number} at seconds since 1970 @param {Date} now @param {string} [locale] */
export function formatTime(at, now, locale) {
    const then = new Date(at * 1000);
    const time = then.toLocaleTimeString(locale, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
    return then.toDateString() === now.toDateString() ? time : `${then.toLocaleDateString(locale, { day: "numeric", month: "short" })}, ${time}`;
}
