// Tells which variant each of many users gets.

import { connect, settings } from './providers.mjs';

const client = await connect();
const variants = {};
for (const flag of settings.flags) {
  for (let number = 0; number < settings.users; number += 1) {
    const user = `user-${number}`;
    const context = { targetingKey: user, email: `${user}@example.org` };
    const details = await client.getStringDetails(flag, 'none', context);
    if (details.errorCode) throw new Error(JSON.stringify(details));
    variants[`${flag} ${user}`] = details.variant;
  }
}
process.stdout.write(`= ${JSON.stringify(variants)}\n`, () => process.exit(0));
