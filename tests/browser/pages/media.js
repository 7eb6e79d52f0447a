// The sound of a call: played, so that the browser decodes it, and measured.

/** Plays what arrives on `connection` as soon as it does. */
export function play(connection) {
  connection.addEventListener('track', ({ track }) => {
    const audio = document.querySelector('audio');
    audio.srcObject = new MediaStream([track]);
    audio.play();
  });
}

/** What `connection` has heard and said so far: packets, and the energy of the decoded sound. */
export async function measure(connection) {
  const sum = { packetsReceived: 0, packetsSent: 0, energy: 0, ice: connection.iceConnectionState };
  for (const report of (await connection.getStats()).values()) {
    if (report.type === 'inbound-rtp') {
      sum.packetsReceived += report.packetsReceived;
      sum.energy += report.totalAudioEnergy ?? 0;
    }
    if (report.type === 'outbound-rtp') sum.packetsSent += report.packetsSent;
  }
  return sum;
}
