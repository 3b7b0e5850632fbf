/** A fault of the machine that a person can cure. Its message is one line that names the cure; the command line prints nothing else. */
export class LocalFault extends Error {
  override readonly name = 'LocalFault';
}
