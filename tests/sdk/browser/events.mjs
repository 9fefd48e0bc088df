// Follows a flag through changes, the death of its sidecar and the next one, as a page would: by events alone.

import { OpenFeature, ProviderEvents } from '@openfeature/web-sdk';
import { connect, run, say, settings, step } from './page.mjs';

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
    await say(`event ${seen} ${details.flagsChanged} ${details.message}`);
    if (seen === name && matches(details)) return;
  }
}

// The flagd provider for browsers does not say which flags changed.
const changed = (details) => settings.provider === 'rpc' || details.flagsChanged?.includes(FLAG);

run(async () => {
  const client = await connect();
  function expect(value) {
    const details = client.getBooleanDetails(FLAG, !value);
    if (details.value !== value) throw new Error(`${JSON.stringify(details)} instead of ${value}`);
  }
  expect(false);

  // Waits for the change that brings this value: one that was told before it may be another's.
  async function awaitValue(value) {
    do await awaitEvent(ProviderEvents.ConfigurationChanged, changed);
    while (client.getBooleanValue(FLAG, !value) !== value);
  }

  await step('following');
  await awaitValue(true);

  await step('changed');
  if (settings.provider === 'ofrep') await awaitEvent(ProviderEvents.Stale);
  expect(true);

  await step('alone');
  // It was changed meanwhile, and the connection came back by itself.
  if (client.getBooleanValue(FLAG, true)) await awaitValue(false);

  await step('back');
  await awaitValue(true);
});
