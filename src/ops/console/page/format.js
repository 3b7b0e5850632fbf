/* Numbers for a person; the same forms as the program prints. */

export const count = (value) => Math.round(value).toLocaleString('en-US');

/** A large count in few signs: `1.42 M`. */
export const fewSigns = (value) => (value < 1e6 ? count(value) : value < 1e9 ? `${(value / 1e6).toFixed(value < 1e7 ? 2 : 1)} M` : `${(value / 1e9).toFixed(2)} bn`);

/** `14.6 MB`, in powers of 1024. */
export function bytes(value) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let [size, unit] = [value, 0];
  while (Math.abs(size) >= 1024 && unit < units.length - 1) [size, unit] = [size / 1024, unit + 1];
  return `${unit === 0 ? Math.round(size) : size.toFixed(1)} ${units[unit]}`;
}

/** `45 s`, `12 min`, `3 h 20 min`, `2 d 4 h`. */
export function duration(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.round(whole / 60)} min`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)} h ${Math.round((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86_400)} d ${Math.round((whole % 86_400) / 3600)} h`;
}

/** Seconds of a run or node, short ones with their fraction. */
export const elapsed = (seconds) => (seconds < 10 ? `${seconds.toFixed(2)} s` : seconds < 60 ? `${seconds.toFixed(1)} s` : duration(seconds));

export function since(atMs, nowMs = Date.now()) {
  const seconds = Math.max(0, (nowMs - atMs) / 1000);
  if (seconds < 5) return 'just now';
  return `${duration(seconds)} ago`;
}

/** A count a second: short, since it stands on an arrow. */
export function perSecond(value) {
  if (value < 0.05) return '0/s';
  if (value < 10) return `${value.toFixed(1)}/s`;
  return `${count(value)}/s`;
}

export const share = (value) => `${value >= 0.9995 || value === 0 ? Math.round(value * 100) : (value * 100).toFixed(1)} %`;

export const plural = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;

/** Dify's own times: UTC without a zone. */
export const utc = (text) => (text ? `${text.slice(0, 10)} ${text.slice(11, 19)}` : '–');

const TABLES = { workflow_runs: 'runs', workflow_app_logs: 'app logs', workflow_node_executions: 'node executions', workflow_node_execution_offload: 'offload' };
export const tableName = (table) => TABLES[table] ?? table;
