// A page in headless Chromium receives live events by its own WebSocket and EventSource.
// node browser.mjs CHROMIUM PAGE-URL SCREENSHOT; prints the page's two lists as JSON.
import { chromium } from 'playwright-core';

const [executablePath, url, shot] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath, headless: true,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'],
});
try {
  const page = await browser.newPage({ viewport: { width: 900, height: 600 } });
  await page.goto(url);
  await page.waitForFunction(() => document.querySelectorAll('#ws li').length >= 3 && document.querySelectorAll('#es li').length >= 3,
    null, { timeout: 15000 }).catch(() => {});
  const texts = id => page.$$eval(`#${id} li`, all => all.map(li => li.textContent));
  console.log(JSON.stringify({ ws: await texts('ws'), es: await texts('es') }));
  await page.screenshot({ path: shot });
} finally {
  await browser.close();
}
