/** Node's codes for a handshake that failed, as opposed to a connection that was never made. */
const TLS_CODE = /^(ERR_TLS_|ERR_SSL_|CERT_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|HOSTNAME_MISMATCH|INVALID_CA|EPROTO)/;

/** Whether the `code` of a socket's error says that TLS is what fails: no waiting cures that, a person does. */
export function isTlsFault(code: unknown): code is string {
  return typeof code === 'string' && TLS_CODE.test(code);
}
