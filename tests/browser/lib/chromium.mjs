// Debian's Chromium, driven by Playwright. It hears a fake microphone that beeps, and asks nobody for leave.

import { chromium } from 'playwright-core';

const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--use-fake-device-for-media-stream',
  '--use-fake-ui-for-media-stream',
  // A tab may play what it hears although nobody has clicked in it.
  '--autoplay-policy=no-user-gesture-required',
  // sipwsd makes a self-signed certificate at its start.
  '--ignore-certificate-errors',
  // WebRTC leaves loopback out of its candidates unless told otherwise, and here is nothing else.
  '--allow-loopback-in-peer-connection',
  '--disable-features=WebRtcHideLocalIpsWithMdns',
];

export const startChromium = () =>
  chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, args: FLAGS });
