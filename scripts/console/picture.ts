import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { openBrowser, openPage, shows } from '../../test/support/browser.ts';
import { CHECKOUT } from '../local/maven.ts';

const USAGE = `usage: npm run console:picture -- [options]

  Takes the picture of the README from a console that is running (after \`npm run demo\`: bin/dify-es console).

  --url URL      default http://127.0.0.1:9465/
  --dir DIR      default docs/images
  --wait SECONDS so long the page is left to follow the servers before it is taken (default 30)`;

/** Waits for a page that shows the servers, and takes it. */
async function main(): Promise<void> {
  const { values } = parseArgs({ options: { url: { type: 'string', default: 'http://127.0.0.1:9465/' }, dir: { type: 'string', default: join(CHECKOUT, 'docs/images') }, wait: { type: 'string', default: '30' }, help: { type: 'boolean', default: false } } });
  if (values.help) return void process.stdout.write(`${USAGE}\n`);
  const browser = await openBrowser();
  try {
    const { page } = await openPage(browser);
    await page.goto(values.url);
    await shows(page, 'docs', '[data-node="elastic"]');
    await new Promise((resolve) => setTimeout(resolve, Number(values.wait) * 1000));
    await page.screenshot({ path: join(values.dir, 'console-light.png'), fullPage: true });
  } finally {
    await browser.close();
  }
}

await main();
