// Evaluates the cases of the table and says which differ from what they expect.

import { OpenFeature } from '@openfeature/web-sdk';
import cases from '../cases.json';
import { connect, run, say, settings } from './page.mjs';

const ASK = {
  boolean: 'getBooleanDetails',
  string: 'getStringDetails',
  integer: 'getNumberDetails',
  float: 'getNumberDetails',
  object: 'getObjectDetails',
};

// JSON with its keys in order, so that equal values are equal texts.
const ordered = (value) =>
  JSON.stringify(value, (_, part) =>
    part && typeof part === 'object' && !Array.isArray(part) ? Object.fromEntries(Object.entries(part).sort()) : part,
  ) ?? 'nothing';

async function differences(client, test) {
  const context = { ...test.context };
  if (test.targetingKey) context.targetingKey = test.targetingKey;
  await OpenFeature.setContext(context);
  const details = client[ASK[test.type]](test.flag, test.default);
  const expected = { error: undefined, ...test.expect, ...test.but?.[`browser ${settings.provider}`] };
  const seen = {
    value: details.value,
    // Nothing and an empty name are the same to those who ask.
    variant: details.variant || null,
    reason: details.reason,
    error: details.errorCode,
    metadata: Object.fromEntries(Object.keys(expected.metadata ?? {}).map((key) => [key, details.flagMetadata[key]])),
  };
  return Object.entries(expected)
    .filter(([name, value]) => ordered(seen[name]) !== ordered(value))
    .map(([name, value]) => `${name}: ${ordered(seen[name])} instead of ${ordered(value)} (${details.errorMessage})`);
}

run(async () => {
  const client = await connect();
  let wrong = 0;
  for (const test of cases) {
    const found = await differences(client, test);
    if (found.length) {
      wrong += 1;
      await say([`${test.type} ${test.flag} ${JSON.stringify(test.context ?? '')}`, ...found].join('\n    '));
    }
  }
  if (wrong) throw new Error(`${wrong} of ${cases.length} cases`);
});
