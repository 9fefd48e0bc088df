// A provider of the official Node.js SDK, as the settings on the command line ask for it.

import { createInterface } from 'node:readline';
import { OpenFeature } from '@openfeature/server-sdk';
import { FlagdProvider } from '@openfeature/flagd-provider';
import { OFREPProvider } from '@openfeature/ofrep-provider';

export const settings = JSON.parse(process.argv[2]);
// A busy machine is slower than the half second that the provider gives itself.
const PATIENCE_MS = 20_000;

function provider() {
  const at = settings.address.lastIndexOf(':');
  const [host, port] = [settings.address.slice(0, at), Number(settings.address.slice(at + 1))];
  if (settings.provider === 'ofrep') {
    return new OFREPProvider({ baseUrl: `http://${host}:${port}` });
  }
  return new FlagdProvider({
    host,
    port,
    socketPath: settings.socket,
    resolverType: settings.provider,
    cache: settings.cache ?? 'disabled',
    selector: settings.selector ?? '',
    deadlineMs: PATIENCE_MS,
    retryBackoffMs: 100,
    retryBackoffMaxMs: 200,
    retryGracePeriod: settings.grace ?? 10,
  });
}

// A client of a provider that says it is ready.
export async function connect() {
  await OpenFeature.setProviderAndWait(provider());
  return OpenFeature.getClient();
}

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

// Says how far the script is, and goes on when the test has done its part.
export async function step(name) {
  console.log(`@ ${name}`);
  if ((await lines.next()).done) throw new Error('the test is gone');
}
