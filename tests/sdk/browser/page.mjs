// What the pages have in common: the provider their settings ask for, and the way to talk to the test.

import { OpenFeature } from '@openfeature/web-sdk';
import { FlagdWebProvider } from '@openfeature/flagd-web-provider';
import { OFREPWebProvider } from '@openfeature/ofrep-web-provider';

export const settings = JSON.parse(new URLSearchParams(location.search).get('settings'));

// Lines reach the test in their order.
let said = Promise.resolve();
export function say(line) {
  said = said.then(() => fetch('/say', { method: 'POST', body: line }));
  return said;
}

// Says how far the page is, and goes on when the test has done its part.
export async function step(name) {
  await say(`@ ${name}`);
  await fetch('/go');
}

export async function connect() {
  const at = settings.address.lastIndexOf(':');
  const [host, port] = [settings.address.slice(0, at), Number(settings.address.slice(at + 1))];
  const provider =
    settings.provider === 'ofrep'
      ? new OFREPWebProvider({ baseUrl: `http://${host}:${port}`, cacheMode: 'disabled' }, console)
      : new FlagdWebProvider({ host, port, tls: false, maxDelay: 500 }, console);
  await OpenFeature.setProviderAndWait(provider);
  return OpenFeature.getClient();
}

// Runs the page, and tells the test how it ended.
export async function run(main) {
  try {
    await main();
    await say('= true');
  } catch (error) {
    await say(`! ${error.stack ?? error}`);
  }
}
