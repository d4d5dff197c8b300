// Read-outs under the pointer. The page is complete without them.
// Written without the less-than and ampersand characters, so that the page is well-formed XML as well.
'use strict';
(() => {
  const tip = document.createElement('div');
  tip.className = 'tip';
  tip.hidden = true;
  document.body.append(tip);

  const show = (event, text) => {
    tip.textContent = text;
    tip.hidden = false;
    const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
    const below = event.clientY + 18;
    const fits = innerHeight >= below + tip.offsetHeight;
    tip.style.left = Math.max(left, 4) + 'px';
    tip.style.top = (fits ? below : event.clientY - tip.offsetHeight - 10) + 'px';
  };

  // Everything of one layer, in all charts and the table, lights up together.
  const light = (layer) => {
    document.querySelectorAll('.lit').forEach((element) => element.classList.remove('lit'));
    if (layer === undefined) return;
    document.querySelectorAll(`[data-layer="${layer}"]`).forEach((element) => element.classList.add('lit'));
  };
  const leave = () => {
    tip.hidden = true;
    light();
  };

  // The browser's own slow tooltips become quick ones.
  for (const title of document.querySelectorAll('svg > * > title')) {
    const shape = title.parentNode;
    const text = title.textContent;
    shape.setAttribute('aria-label', text);
    title.remove();
    shape.addEventListener('pointermove', (event) => {
      show(event, text);
    });
    shape.addEventListener('pointerenter', () => light(shape.dataset.layer));
    shape.addEventListener('pointerleave', leave);
  }
  for (const row of document.querySelectorAll('tr[data-layer]')) {
    row.addEventListener('pointerenter', () => light(row.dataset.layer));
    row.addEventListener('pointerleave', leave);
  }

  // The heat map is one picture; its figures are beside it, two digits of base 64 for the root of each frequency.
  const data = document.getElementById('heat-data');
  if (data === null) return;  // a page without one
  const layers = JSON.parse(data.textContent);
  const digits = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
  const frequencyAt = (layer, column) => {
    const high = digits.indexOf(layer.row[2 * column]);
    const low = digits.indexOf(layer.row[2 * column + 1]);
    return ((high * 64 + low) / 4095) ** 2;
  };
  const count = (number) => number.toLocaleString('en-US');
  const percent = (share) => (share * 100).toFixed(share >= 0.1 ? 0 : 2) + '\u00a0%';
  const clamp = (value, length) => Math.max(0, Math.min(length - 1, Math.floor(value * length)));

  const target = document.querySelector('.heat-target');
  target.addEventListener('pointermove', (event) => {
    const box = target.getBoundingClientRect();
    const number = clamp((event.clientY - box.top) / box.height, layers.length);
    const layer = layers[number];
    if (layer === undefined || layer.columns === 0) return;
    const column = clamp((event.clientX - box.left) / box.width, layer.columns);
    const first = Math.floor(column * layer.neurons / layer.columns);
    const last = Math.floor((column + 1) * layer.neurons / layer.columns) - 1;
    const ranks = last > first ? `neurons ${count(first + 1)} to ${count(last + 1)}` : `neuron ${count(first + 1)}`;
    const side = layer.hot > last ? 'hot' : layer.hot > first ? 'at the border' : 'cold';
    show(event, `Layer ${number}, ${ranks} of ${count(layer.neurons)}: active for ${percent(frequencyAt(layer, column))} of tokens, ${side}`);
    light(number);
  });
  target.addEventListener('pointerleave', leave);
})();
