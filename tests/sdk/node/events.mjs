// Follows a flag through changes, the death of its sidecar and the next one, as an app would: by events alone.

import { OpenFeature, ProviderEvents } from '@openfeature/server-sdk';
import { connect, settings, step } from './providers.mjs';

const FLAG = 'search';
const PATIENCE_MS = 60_000;
const events = [];
let wake = () => {};

for (const event of Object.values(ProviderEvents)) {
  OpenFeature.addHandler(event, (details) => {
    events.push([event, details ?? {}]);
    wake();
  });
}

// The next event of this name that matches; others that come before it are told.
async function awaitEvent(name, matches = () => true) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    while (!events.length) {
      const left = deadline - Date.now();
      if (left <= 0) throw new Error(`no ${name} within ${PATIENCE_MS} ms`);
      await new Promise((resolve) => {
        wake = resolve;
        setTimeout(resolve, left);
      });
    }
    const [seen, details] = events.shift();
    console.log('event', seen, details.flagsChanged, details.message);
    if (seen === name && matches(details)) return;
  }
}

const changed = (details) => details.flagsChanged?.includes(FLAG);

async function expect(value, ...reasons) {
  const details = await client.getBooleanDetails(FLAG, !value);
  if (details.value !== value || !reasons.includes(details.reason)) {
    throw new Error(`${JSON.stringify(details)} instead of ${value}, ${reasons}`);
  }
}

// Waits for the change that brings this value: one that was told before it may be another's.
async function awaitValue(value) {
  do await awaitEvent(ProviderEvents.ConfigurationChanged, changed);
  while ((await client.getBooleanValue(FLAG, !value)) !== value);
}

const cached = settings.provider === 'rpc' ? 'CACHED' : 'STATIC';
const client = await connect();
await expect(false, 'STATIC');
await expect(false, cached);

await step('following');
await awaitValue(true);
await expect(true, cached);

await step('changed');
await awaitEvent(ProviderEvents.Stale);
// An in-process provider goes on by itself; the other one has dropped its cache and gives the app's default.
if (settings.provider === 'in-process') await expect(true, 'STATIC');
else if (await client.getBooleanValue(FLAG, false)) throw new Error('not the default of the app');

await step('alone');
await awaitEvent(ProviderEvents.Ready);
// It was changed meanwhile.
if (await client.getBooleanValue(FLAG, true)) await awaitValue(false);
await expect(false, 'STATIC', cached);

await step('back');
await awaitValue(true);

await step('draining');
await awaitEvent(ProviderEvents.Stale);
await step('left');
await awaitEvent(ProviderEvents.Ready);
if (!(await client.getBooleanValue(FLAG, false))) await awaitValue(true);
console.log('= true');
process.exit(0);
