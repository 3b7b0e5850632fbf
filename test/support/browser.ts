import chromium from '@sparticuz/chromium';
import puppeteer, { type Browser, type Page } from 'puppeteer-core';

export type { Browser, Page } from 'puppeteer-core';
export type Scheme = 'light' | 'dark';

/**
 * A real Chromium without a window. Not with the arguments that the package suggests: they switch the same-origin policy
 * off, which is among what is tested. The sandbox does not work for root.
 */
export async function openBrowser(): Promise<Browser> {
  return await puppeteer.launch({ executablePath: await chromium.executablePath(), headless: 'shell', args: ['--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--font-render-hinting=none', '--force-color-profile=srgb'] });
}

/** A page of a width, in a scheme; what it asks for and what goes wrong in it is kept. */
export async function openPage(browser: Browser, width = 1280, scheme: Scheme = 'light'): Promise<{ readonly page: Page; readonly seen: Seen }> {
  const page = await browser.newPage();
  await page.setViewport({ width, height: width < 600 ? 844 : 900 });
  await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }]);
  const seen: Seen = { urls: [], bytes: 0, faults: [] };
  page.on('request', (request) => void seen.urls.push(request.url()));
  page.on('pageerror', (error) => void seen.faults.push(`error: ${error instanceof Error ? error.message : String(error)}`));
  page.on('dialog', (dialog) => {
    seen.faults.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on('console', (message) => {
    if (message.type() === 'error') seen.faults.push(`console: ${message.text()}`);
  });
  const network = await page.createCDPSession();
  await network.send('Network.enable');
  network.on('Network.dataReceived', ({ dataLength }) => void (seen.bytes += dataLength));
  return { page, seen };
}

export interface Seen {
  readonly urls: string[];
  /** Of all answers, uncompressed. */
  bytes: number;
  /** Errors of scripts, dialogs, and what the console was told of as an error (a refusal by the page's policy too). */
  readonly faults: string[];
}

/** Waits until the page's text holds the words: no pause, a signal. */
export async function shows(page: Page, words: string, selector = 'body', timeout = 60_000): Promise<void> {
  try {
    await page.waitForFunction(`(document.querySelector(${JSON.stringify(selector)})?.textContent ?? '').includes(${JSON.stringify(words)})`, { timeout, polling: 100 });
  } catch (error) {
    const found = String(await page.evaluate(`document.querySelector(${JSON.stringify(selector)})?.textContent.replaceAll(/\\s+/g, ' ').slice(0, 1500)`));
    throw new Error(`the page does not show ${JSON.stringify(words)}; it shows: ${found}`, { cause: error });
  }
}

/** How far anything lies beyond the right edge, in pixels: 0 for a page that scrolls in one direction alone. */
export async function overflow(page: Page): Promise<number> {
  return Number(await page.evaluate("Math.max(document.documentElement.scrollWidth - innerWidth, ...[...document.querySelectorAll('dialog[open]')].map((dialog) => dialog.scrollWidth - dialog.clientWidth))"));
}
