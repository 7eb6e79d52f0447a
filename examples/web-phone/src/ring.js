// The sounds of a phone, made on the spot: it rings for a call that comes in, and beeps slowly while it rings elsewhere.

const TONES = {
  incoming: { frequencies: [440, 554], on: 0.4, every: 1.6 },
  calling: { frequencies: [425], on: 1, every: 5 },
};

let context;
let timer;

/** Starts the tone of `state` ("incoming" or "calling"); any other state is silence. */
export function ring(state) {
  clearInterval(timer);
  const tone = TONES[state];
  if (!tone) return;
  context ??= new AudioContext();
  // A page nobody has touched yet stays silent.
  context.resume();
  const beep = () => {
    if (context.state === 'running') play(tone);
  };
  beep();
  timer = setInterval(beep, tone.every * 1000);
}

function play({ frequencies, on }) {
  const start = context.currentTime;
  const volume = new GainNode(context, { gain: 0 });
  volume.gain.setTargetAtTime(0.05, start, 0.02);
  volume.gain.setTargetAtTime(0, start + on, 0.02);
  volume.connect(context.destination);
  for (const frequency of frequencies) {
    const oscillator = new OscillatorNode(context, { frequency });
    oscillator.connect(volume);
    oscillator.start(start);
    oscillator.stop(start + on + 0.2);
  }
}
