// The map of layers and neurons. SPDX-License-Identifier: Apache-2.0
'use strict';

// Draws a model's neurons, a row a layer, a column for neighbours in the order of placement. What fires lights up and
// fades to what the last step leaves; how often each column fires is a faint trace. Draws only while something changes.
class NeuronMap {
  static kFadeMilliseconds = 420;
  static kRest = 0.38;  // of the last step's light, which stays until the next
  static kTrace = 0.03;  // weight of one step in the trace
  static kStillMilliseconds = 1000;  // between pictures for those who want no motion

  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext('2d');
    this.pixels = document.createElement('canvas');
    this.still = matchMedia('(prefers-reduced-motion: reduce)');
    this.layers = 0;
    this.columns = 0;
    this.drawn = 0;
    this.frame = 0;
    this.paintings = 0;
    this.mark = null;
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  // model: as the server describes it.
  setModel(model) {
    const same = model.n_layers === this.layers && model.columns === this.columns && model.d_ff === this.neurons;
    this.neurons = model.d_ff;
    this.hot = model.hot;
    if (!same) {
      this.layers = model.n_layers;
      this.columns = model.columns;
      const cells = this.layers * this.columns;
      this.light = new Float32Array(cells);  // of the last step, fading
      this.trace = new Float32Array(cells);  // how often
      this.last = new Uint8Array(cells);     // counts of the last step
      this.rates = new Float32Array(this.layers).fill(NaN);
      this.pixels.width = this.columns;
      this.pixels.height = this.layers;
      this.image = new ImageData(this.columns, this.layers);
    }
    this.resize();
  }

  // Ranks [first, end) of a column.
  ranks(column) {
    return [Math.ceil(column * this.neurons / this.columns), Math.ceil((column + 1) * this.neurons / this.columns)];
  }

  fire(counts) {
    this.settle(performance.now());
    this.last.set(counts);
    for (let layer = 0; layer < this.layers; ++layer) {
      let fired = 0;
      for (let column = 0; column < this.columns; ++column) {
        const i = layer * this.columns + column;
        const [first, end] = this.ranks(column);
        const share = Math.min(counts[i] / (end - first), 1);
        fired += counts[i];
        if (share > 0) this.light[i] = Math.max(this.light[i], 0.45 + 0.55 * share);
        this.trace[i] += NeuronMap.kTrace * (share - this.trace[i]);
      }
      this.rates[layer] = fired / this.neurons;
    }
    this.wake();
  }

  // Lets light fade until now.
  settle(now) {
    const passed = now - (this.settled || now);
    this.settled = now;
    if (this.still.matches) {
      if (passed > 0) this.light.fill(0);
      return;
    }
    const factor = Math.exp(-passed / NeuronMap.kFadeMilliseconds);
    for (let i = 0; i < this.light.length; ++i) this.light[i] *= factor;
  }

  wake() {
    if (this.frame !== 0 || this.layers === 0) return;
    this.frame = requestAnimationFrame((now) => {
      this.frame = 0;
      if (this.still.matches) {
        const wait = this.drawn + NeuronMap.kStillMilliseconds - now;
        if (wait > 0) {
          this.frame = -1;
          setTimeout(() => { this.frame = 0; this.wake(); }, wait);
          return;
        }
        this.draw(now);
        return;
      }
      this.settle(performance.now());
      this.draw(now);
      if (this.light.some((value) => value > 0.01)) this.wake();
    });
  }

  resize() {
    const ratio = Math.min(devicePixelRatio || 1, 3);
    const width = Math.round(this.canvas.clientWidth * ratio), height = Math.round(this.canvas.clientHeight * ratio);
    if (width === 0 || height === 0) return;
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    this.ratio = ratio;
    if (this.layers > 0) this.draw(performance.now());
  }

  // Where the rows lie on the canvas.
  geometry() {
    const unit = parseFloat(getComputedStyle(document.documentElement).fontSize) * this.ratio;
    const font = 0.6875 * unit;
    const left = 2.1 * font, right = 3.6 * font, top = 0.8 * font, bottom = 0.8 * font;
    const width = this.canvas.width - left - right, height = this.canvas.height - top - bottom;
    const row = height / this.layers;
    const gap = row > 6 * this.ratio ? Math.max(1, Math.min(row * 0.12, 4 * this.ratio)) : 0;
    return {font, left, right, top, width, height, row, gap};
  }

  static ramp(stops) {
    const colours = new Uint8ClampedArray(256 * 3);
    for (let i = 0; i < 256; ++i) {
      const at = i / 255 * (stops.length - 1), k = Math.min(Math.floor(at), stops.length - 2);
      for (let c = 0; c < 3; ++c) colours[3 * i + c] = stops[k][c] + (stops[k + 1][c] - stops[k][c]) * (at - k);
    }
    return colours;
  }
  static kHot = NeuronMap.ramp([[34, 19, 18], [112, 38, 18], [196, 72, 26], [245, 139, 60], [255, 190, 110], [255, 236, 190]]);
  static kCold = NeuronMap.ramp([[11, 27, 42], [20, 56, 92], [31, 95, 147], [64, 160, 216], [132, 210, 245], [224, 246, 255]]);

  draw(now) {
    this.drawn = now;
    const {context, columns, layers} = this;
    const {font, left, top, width, row, gap} = this.geometry();
    // Where there are fewer dots than columns the brightest of neighbours shows.
    const shown = Math.max(1, Math.min(columns, Math.floor(width)));
    const data = this.image.data;
    for (let layer = 0; layer < layers; ++layer) {
      let brightest = 0;
      for (let column = 0; column < columns; ++column) {
        const i = layer * columns + column;
        const dot = Math.floor(column * shown / columns);
        const light = Math.max(this.light[i], this.last[i] > 0 ? NeuronMap.kRest : 0);
        brightest = Math.max(brightest, Math.min(1, 0.42 * Math.sqrt(this.trace[i]) + 0.95 * light));
        if (Math.floor((column + 1) * shown / columns) === dot) continue;
        const [first, end] = this.ranks(column);
        const ramp = (first + end) / 2 < this.hot[layer] ? NeuronMap.kHot : NeuronMap.kCold;
        const from = 3 * Math.round(255 * brightest), to = 4 * (layer * columns + dot);
        data[to] = ramp[from];
        data[to + 1] = ramp[from + 1];
        data[to + 2] = ramp[from + 2];
        data[to + 3] = 255;
        brightest = 0;
      }
    }
    this.pixels.getContext('2d').putImageData(this.image, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.imageSmoothingEnabled = false;
    for (let layer = 0; layer < layers; ++layer) {
      const y = Math.round(top + layer * row), next = Math.round(top + (layer + 1) * row);
      context.drawImage(this.pixels, 0, layer, shown, 1, left, y, width, Math.max(next - y - gap, 1));
    }
    this.drawBorder(left, top, width, row, gap, font / 11);
    this.drawLabels(font, left, top, width, row);
    if (this.mark !== null) {
      const x = left + this.mark.column / columns * width;
      context.strokeStyle = '#ffffff';
      context.lineWidth = 1.5 * this.ratio;
      context.strokeRect(x - this.ratio, top + this.mark.layer * row, Math.max(width / columns, 1) + 2 * this.ratio, row - gap);
    }
    this.paintings += 1;
  }

  // The step-shaped line between what lives on accelerators and what does not.
  drawBorder(left, top, width, row, gap, scale) {
    if (this.hot.every((count) => count === 0)) return;
    const {context} = this;
    context.beginPath();
    this.hot.forEach((count, layer) => {
      const x = left + count / this.neurons * width;
      if (layer === 0) context.moveTo(x, top);
      else context.lineTo(x, top + layer * row);
      context.lineTo(x, top + (layer + 1) * row - (layer + 1 === this.layers ? gap : 0));
    });
    context.lineJoin = 'round';
    for (const [colour, size] of [['rgba(5, 11, 18, 0.8)', 5], ['#ffffff', 1.75]]) {
      context.strokeStyle = colour;
      context.lineWidth = size * scale;
      context.stroke();
    }
  }

  drawLabels(font, left, top, width, row) {
    const {context} = this;
    const every = Math.max(1, Math.ceil(1.25 * font / row));
    context.font = `${font}px system-ui, "DejaVu Sans", sans-serif`;
    context.textBaseline = 'middle';
    context.fillStyle = getComputedStyle(this.canvas).getPropertyValue('--map-ink');
    for (let layer = 0; layer < this.layers; layer += every) {
      const y = top + (layer + 0.5) * row;
      context.textAlign = 'right';
      context.fillText(String(layer), left - 0.6 * font, y);
      context.textAlign = 'left';
      if (!Number.isNaN(this.rates[layer])) context.fillText(`${(100 * this.rates[layer]).toFixed(0)}\u202f%`, left + width + 0.6 * font, y);
    }
  }

  // The cell under a point of the page; null outside.
  at(clientX, clientY) {
    if (this.layers === 0) return null;
    const box = this.canvas.getBoundingClientRect();
    const {left, top, width, row} = this.geometry();
    const column = Math.floor(((clientX - box.left) * this.ratio - left) / width * this.columns);
    const layer = Math.floor(((clientY - box.top) * this.ratio - top) / row);
    return column >= 0 && column < this.columns && layer >= 0 && layer < this.layers ? {layer, column} : null;
  }

  // A cell's place on the page's own scale, within the canvas.
  placeOf({layer, column}) {
    const {left, top, width, row} = this.geometry();
    return [(left + (column + 0.5) / this.columns * width) / this.ratio, (top + (layer + 0.5) * row) / this.ratio];
  }

  // known: whether steps tell what fires.
  describe({layer, column}, known) {
    const [first, end] = this.ranks(column);
    const which = end - first > 1 ? `neurons ${first + 1} to ${end}` : `neuron ${end}`;
    const side = end <= this.hot[layer] ? 'hot' : first >= this.hot[layer] ? 'cold' : 'at the border';
    const i = layer * this.columns + column;
    const fired = known ? `, ${this.last[i]} of ${end - first} fired` : '';
    return `Layer ${layer}, ${which} of ${this.neurons.toLocaleString('en-US')}, ${side}${fired}`;
  }

  setMark(mark) {
    this.mark = mark;
    if (this.layers > 0) this.draw(performance.now());
  }
}
