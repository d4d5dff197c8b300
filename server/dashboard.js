// The dashboard: live figures, the prompt box, the key. SPDX-License-Identifier: Apache-2.0
(() => {
  const element = (id) => document.getElementById(id);
  const set = (id, text) => {
    const target = element(id);
    if (target.textContent !== text) target.textContent = text;
  };
  const count = (number) => number.toLocaleString('en-US');
  const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? '' : 's'}`;
  const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)}\u202f%`;
  const perSecond = (rate) => rate >= 100 ? count(Math.round(rate)) : rate >= 10 ? rate.toFixed(1) : rate.toFixed(2);

  // ---- The key: in this variable and nowhere else.
  let key = '';
  const headers = (more) => key === '' ? {...more} : {...more, Authorization: `Bearer ${key}`};
  const askForKey = (reason) => {
    const dialog = element('key-dialog');
    set('key-reason', reason);
    if (!dialog.open) dialog.showModal();
    element('key').focus();
  };
  const kWhereKeysStay = 'It stays in this page\u2019s memory and is gone when you reload.';
  element('key-button').addEventListener('click', () => askForKey(`Sent with every request to this server. ${kWhereKeysStay}`));
  element('key-cancel').addEventListener('click', () => element('key-dialog').close());
  element('key-form').addEventListener('submit', () => {
    key = element('key').value.trim();
    element('key').value = '';
    set('key-button', key === '' ? 'API key' : 'API key \u2713');
    live.restart();
  });

  // ---- Server-sent events by fetch, which can send a key.

  // Calls take(data) for each event's data until the stream ends.
  const readEvents = async (response, take) => {
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    let text = '';
    for (;;) {
      const {done, value} = await reader.read();
      if (done) return;
      text += decoder.decode(value, {stream: true});
      for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
        if (text.startsWith('data: ')) take(text.slice(6, end));
        text = text.slice(end + 2);
      }
    }
  };
  const messageOf = async (response) => {
    try {
      return (await response.json()).error.message;
    } catch {
      return `the server answered ${response.status}`;
    }
  };

  // ---- The map
  const map = new NeuronMap(element('map'));
  let model = null, knows = false, pointed = null;
  const showTip = () => {
    const tip = element('tip');
    tip.hidden = pointed === null;
    if (pointed === null) return;
    set('tip', map.describe(pointed, knows));
    const [x, y] = map.placeOf(pointed);
    const room = element('map').clientWidth - tip.offsetWidth, above = y - tip.offsetHeight - 12;
    const left = Math.max(4, Math.min(x + 12, room - 4)), top = above > 4 ? above : y + 14;
    tip.style.transform = `translate(${left}px, ${top}px)`;
  };
  const point = (cell) => {
    pointed = cell;
    map.setMark(cell);
    showTip();
  };
  element('map').addEventListener('pointermove', (event) => point(map.at(event.clientX, event.clientY)));
  element('map').addEventListener('pointerleave', () => point(null));
  element('map').addEventListener('blur', () => point(null));
  element('map').addEventListener('keydown', (event) => {
    const step = event.shiftKey ? 16 : 1;
    const moves = {ArrowLeft: [0, -step], ArrowRight: [0, step], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -map.columns], End: [0, map.columns]};
    if (event.key === 'Escape') point(null);
    if (moves[event.key] === undefined || map.layers === 0) return;
    event.preventDefault();
    const [down, right] = moves[event.key];
    const from = pointed || {layer: down < 0 ? map.layers : down > 0 ? -1 : 0, column: right < 0 ? 1 : 0};
    const within = (value, end) => Math.max(0, Math.min(end - 1, value));
    point({layer: within(from.layer + down, map.layers), column: within(from.column + right, map.columns)});
  });

  const setSummary = (...parts) => {
    element('map-summary').replaceChildren(...parts.map((part, i) => {
      if (i % 2 === 0) return part;
      const strong = document.createElement('b');
      strong.textContent = part;
      return strong;
    }));
  };
  const setNote = (text) => {
    set('map-note', text);
    element('map-note').hidden = text === '';
  };

  let accelerator = null;
  const showModel = (described) => {
    model = described;
    accelerator = model.devices.find((device) => device.kind !== 'cpu') || null;
    document.title = `${model.name} \u00b7 Thermocline`;
    set('model-name', model.name);
    set('model-facts', ` \u00b7 ${model.n_layers} layers \u00d7 ${count(model.d_ff)} neurons \u00b7 ${model.weight_types[0]} \u00b7 ${model.mode} mode`);
    element('quality-field').hidden = !['predicted', 'threshold'].includes(model.mode);
    set('on-gpu-name', accelerator !== null && accelerator.kind === 'host' ? 'Share on accelerator' : 'Share on GPU');
    element('hot-scale').hidden = accelerator === null;
    if (accelerator !== null) set('hot-label', `hot, on ${accelerator.name}${accelerator.kind === 'host' ? ' (emulated)' : ''}`);
    set('cold-label', accelerator === null ? 'on the CPU' : 'cold, on the CPU');
    if (model.columns === undefined) {
      setNote('This server does not record which neurons fire.');
      return;
    }
    map.setModel(model);
    setNote({dense: 'Dense mode computes every neuron and does not look which of them fire.', threshold: 'Lit are the neurons that are not below the thresholds.'}[model.mode] || '');
    if (model.mode === 'dense') setSummary('Every token computes all ', count(model.n_layers * model.d_ff), ' neurons.');
  };

  const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  let described = 0, shown = 0;
  const showStep = (step) => {
    knows = step.known;
    if (!step.known || step.step === shown) return;  // it comes again when somebody else begins to watch
    shown = step.step;
    map.fire(bytesOf(step.fired));
    const together = step.tokens === 1 ? '' : ` for the step\u2019s ${step.tokens} tokens`;
    const parts = ['', count(step.active), ` of ${count(step.neurons)} neurons fired${together}`];
    if (accelerator !== null && step.active > 0) parts.push(percent(step.on_accelerators / step.active), ` of them on ${accelerator.name}`);
    if (parts.length > 3) parts[2] += ', ';
    setSummary(...parts);
    if (performance.now() - described > 3000) {  // readers of screens are not to be flooded
      described = performance.now();
      element('map').setAttribute('aria-label', `Neurons by layer; ${element('map-summary').textContent}`);
    }
    showTip();
  };

  // ---- Figures
  const kWindowMilliseconds = 1500, kLineMilliseconds = 60000, kLinePoints = 121;
  let samples = [];  // {at, figures}, of the last minute
  const before = (milliseconds) => {
    const newest = samples[samples.length - 1];
    return samples.find((sample) => newest.at - sample.at <= milliseconds) || newest;
  };
  const drawSpeeds = () => {
    const newest = samples[samples.length - 1].at;
    const speeds = new Array(kLinePoints).fill(0);
    for (let i = 1; i < samples.length; ++i) {
      const [from, to] = [samples[i - 1], samples[i]];
      const seconds = (to.at - from.at) / 1000;
      const place = kLinePoints - 1 - Math.round((newest - to.at) / kLineMilliseconds * (kLinePoints - 1));
      if (seconds > 0 && place >= 0) speeds[place] += (to.figures.generated_tokens - from.figures.generated_tokens) / (kLineMilliseconds / 1000 / (kLinePoints - 1));
    }
    const most = Math.max(...speeds, 1);
    const points = speeds.map((speed, i) => `${(240 * i / (kLinePoints - 1)).toFixed(1)} ${(46 - 44 * speed / most).toFixed(1)}`);
    document.querySelector('#speed-line .line').setAttribute('d', `M${points.join('L')}`);
    document.querySelector('#speed-line .area').setAttribute('d', `M0 48L${points.join('L')}L240 48Z`);
  };
  const showFigures = (at, figures) => {
    const newest = samples[samples.length - 1];
    if (newest !== undefined && (figures.generated_tokens < newest.figures.generated_tokens || at < newest.at)) samples = [];  // it was started again
    const sample = {at, figures, speed: 0};
    samples.push(sample);
    while (samples.length > 2 && at - samples[0].at > kLineMilliseconds) samples.shift();

    const then = before(kWindowMilliseconds);
    const seconds = (at - then.at) / 1000;
    const speed = seconds > 0 ? (figures.generated_tokens - then.figures.generated_tokens) / seconds : 0;
    set('speed', speed === 0 ? '0' : perSecond(speed));
    sample.speed = speed;
    const peak = Math.max(...samples.map((earlier) => earlier.speed));
    set('speed-note', peak === 0 ? 'of all requests' : `peak ${perSecond(peak)} this minute`);
    drawSpeeds();

    set('running', count(figures.running));
    set('waiting', figures.waiting === 0 ? 'none waits' : `${count(figures.waiting)} wait${figures.waiting === 1 ? 's' : ''}, ${plural(figures.waiting_tokens, 'token')}`);
    const free = figures.pages - figures.used_pages - figures.cached_pages;
    set('pages', count(figures.used_pages));
    set('pages-note', `of ${count(figures.pages)} in use, ${model === null ? '' : `${model.page_tokens} tokens each`}`);
    set('used-pages', count(figures.used_pages));
    set('cached-pages', count(figures.cached_pages));
    set('free-pages', count(free));
    const bar = element('pages-bar');
    bar.children[0].style.width = `${100 * figures.used_pages / figures.pages}%`;
    bar.children[1].style.width = `${100 * figures.cached_pages / figures.pages}%`;
    bar.setAttribute('aria-label', `${plural(figures.used_pages, 'page')} used, ${figures.cached_pages} cached, ${free} free`);
    if (figures.prefix_queried_tokens > 0) {
      set('prefix', percent(figures.prefix_hit_tokens / figures.prefix_queried_tokens));
      set('prefix-note', `of ${plural(figures.prefix_queried_tokens, 'prompt token')}`);
    }
    if (figures.active_neurons > 0) {
      set('active', percent(figures.active_neurons / figures.neurons));
      set('active-note', `${percent(figures.marked_neurons / figures.neurons)} looked at`);
      set('on-gpu', accelerator === null ? '–' : percent(figures.active_on_accelerators / figures.active_neurons));
    } else if (figures.neurons > 0) {
      set('active-note', 'dense: all are computed');
    }
    set('on-gpu-note', accelerator === null ? 'no accelerator' : 'of what fires');
    const predicts = model === null || model.mode === 'predicted';
    set('recall', predicts && figures.audited_tokens > 0 ? percent(figures.recall) : '–');
    set('recall-note', figures.audited_tokens > 0 ? `${plural(figures.audited_tokens, 'token')} audited` : !predicts ? 'nothing is predicted' : 'no audits yet');
    set('finished', count(figures.finished));
    set('finished-note', `${plural(figures.generated_tokens, 'token')} written`);
  };

  // ---- The live stream, while the page is seen
  const live = {
    abort: null,
    timer: 0,
    delay: 1000,
    show(lamp, text) {
      element('lamp').className = `lamp ${lamp}`;
      set('connection-text', text);
    },
    restart() {
      clearTimeout(this.timer);
      if (this.abort !== null) this.abort.abort();
      this.abort = null;
      this.delay = 1000;
      if (!document.hidden) this.run();
    },
    again(text) {
      this.show('off', text);
      this.timer = setTimeout(() => this.run(), this.delay);
      this.delay = Math.min(2 * this.delay, 15000);
    },
    async run() {
      const abort = new AbortController();
      this.abort = abort;
      this.show('', 'connecting');
      try {
        const response = await fetch('thermocline/live', {headers: headers(), signal: abort.signal, cache: 'no-store'});
        if (response.status === 401) {
          this.show('off', 'needs a key');
          askForKey(`The server asks for a key. ${kWhereKeysStay}`);
          return;
        }
        if (response.status === 403) {
          this.show('off', 'needs an admin key');
          setSummary('The live figures need an admin key.');
          return;
        }
        if (!response.ok) {
          this.again(response.status === 429 ? 'too many watch, waiting' : await messageOf(response));
          return;
        }
        this.show('on', 'live');
        this.delay = 1000;
        await readEvents(response, (data) => {
          const event = JSON.parse(data);
          if (event.type === 'model') return showModel(event.model);
          if (event.step !== undefined) showStep(event.step);
          showFigures(event.milliseconds, event.figures);
        });
        this.again('the stream has ended, trying again');
      } catch (error) {
        if (abort.signal.aborted) return;
        this.again('no connection, trying again');
      }
    },
  };
  document.addEventListener('visibilitychange', () => live.restart());

  // ---- The prompt
  let writing = null;
  const setWriting = (controller) => {
    writing = controller;
    set('send', controller === null ? 'Complete' : 'Stop');
    element('send').classList.toggle('stop', controller !== null);
    element('caret').hidden = controller === null;
  };
  const setFacts = (text, bad = false) => {
    set('text-facts', text);
    element('text-facts').classList.toggle('bad', bad);
  };
  const summaryOf = (tokens, usage, own, reason) => {
    const parts = [plural(usage === null ? tokens : usage.completion_tokens, 'token')];
    if (own !== null) {
      parts.push(`${perSecond(own.timings.decode_tokens_per_second)} per second`);
      parts.push(`first after ${own.timings.time_to_first_token_ms.toFixed(own.timings.time_to_first_token_ms < 10 ? 1 : 0)} ms`);
    }
    if (usage !== null && usage.prompt_tokens_details.cached_tokens > 0) parts.push(`${count(usage.prompt_tokens_details.cached_tokens)} of ${plural(usage.prompt_tokens, 'prompt token')} from the cache`);
    if (reason === 'length') parts.push('cut at the limit');
    return parts.join(' \u00b7 ');
  };
  const complete = async () => {
    const prompt = element('prompt').value;
    if (prompt === '') return element('prompt').focus();
    const controller = new AbortController();
    setWriting(controller);
    setFacts('');
    set('given', prompt);
    set('completion', '');
    const box = element('text'), target = element('completion');
    const body = {prompt, stream: true, stream_options: {include_usage: true}, max_tokens: element('max-tokens').valueAsNumber || 200,
                  temperature: Number.isNaN(element('temperature').valueAsNumber) ? 0.8 : element('temperature').valueAsNumber};
    if (!element('quality-field').hidden) body.quality = element('quality').value;
    let tokens = 0, usage = null, own = null, reason = '';
    try {
      const response = await fetch('v1/completions', {method: 'POST', headers: headers({'Content-Type': 'application/json'}), body: JSON.stringify(body), signal: controller.signal});
      if (response.status === 401) askForKey(`Completions need a key. ${kWhereKeysStay}`);
      if (!response.ok) throw new Error(await messageOf(response));
      await readEvents(response, (data) => {
        if (data === '[DONE]') return;
        const event = JSON.parse(data);
        if (event.error !== undefined) throw new Error(event.error.message);
        if (event.usage) usage = event.usage;
        const choice = event.choices[0];
        if (choice === undefined) return;
        if (choice.thermocline !== undefined) own = choice.thermocline;
        if (choice.finish_reason) reason = choice.finish_reason;
        if (choice.text === '') return;
        ++tokens;
        const follows = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
        target.append(choice.text);
        if (follows) box.scrollTop = box.scrollHeight;
      });
      setFacts(summaryOf(tokens, usage, own, reason));
    } catch (error) {
      if (controller.signal.aborted) setFacts(`stopped after ${plural(tokens, 'piece')}`);
      else setFacts(error.message, true);
    }
    setWriting(null);
  };
  element('form').addEventListener('submit', (event) => {
    event.preventDefault();
    if (writing !== null) writing.abort();
    else complete();
  });
  element('prompt').addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (writing === null) complete();
  });

  live.run();
})();
