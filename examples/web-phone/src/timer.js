// How long a call lasts, counted from its answer.

let ticking;

/** Shows in `element` the time since `since` (of `performance.now()`), every second; `null` hides it. */
export function showDuration(element, since) {
  clearInterval(ticking);
  element.hidden = since === null;
  if (since === null) return;
  const draw = () => {
    const seconds = Math.floor((performance.now() - since) / 1000);
    const parts = [Math.floor(seconds / 60) % 60, seconds % 60].map((part) => String(part).padStart(2, '0'));
    const hours = Math.floor(seconds / 3600);
    element.textContent = (hours > 0 ? [hours, ...parts] : parts).join(':');
  };
  draw();
  ticking = setInterval(draw, 1000);
}
