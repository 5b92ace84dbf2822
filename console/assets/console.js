// What the pages do beyond forms and htmx: completion of the audience, live progress, charts, and forms that are sent once. Everything works without it but
// these.
(() => {
  'use strict';

  // A form that is sent once: the second click of two does nothing here, and the form's key makes it harmless elsewhere.
  for (const form of document.querySelectorAll('form[data-once]')) {
    form.addEventListener('submit', event => {
      if (form.dataset.sent) {
        event.preventDefault();
        return;
      }
      form.dataset.sent = 'yes';
      setTimeout(() => form.querySelectorAll('button').forEach(b => { b.disabled = true; }));
    });
  }
  addEventListener('pageshow', event => {
    if (!event.persisted) return;
    for (const form of document.querySelectorAll('form[data-once]')) {
      delete form.dataset.sent;
      form.querySelectorAll('button').forEach(b => { b.disabled = false; });
    }
  });

  // Completion of the audience, as a list that belongs to the text field: the focus stays in the field.
  const field = document.querySelector('[data-complete]');
  if (field) complete(field, document.getElementById('suggestions'));

  function complete(field, list) {
    let from = 0, items = [], chosen = -1, timer = 0, request = null;
    const token = field.form.elements.token;

    const close = () => {
      list.hidden = true;
      chosen = -1;
      field.removeAttribute('aria-activedescendant');
    };
    const mark = i => {
      chosen = i;
      [...list.children].forEach((li, n) => li.setAttribute('aria-selected', n === i ? 'true' : 'false'));
      if (i < 0) {
        field.removeAttribute('aria-activedescendant');
        return;
      }
      field.setAttribute('aria-activedescendant', 'suggestion-' + i);
      list.children[i].scrollIntoView({block: 'nearest'});
    };
    const take = i => {
      const end = field.selectionStart;
      field.setRangeText(items[i].insert, from, end, 'end');
      close();
      field.dispatchEvent(new Event('input', {bubbles: true}));
    };
    const show = answer => {
      from = answer.from;
      items = answer.suggestions;
      list.replaceChildren(...items.map((item, i) => {
        const li = document.createElement('li');
        li.id = 'suggestion-' + i;
        li.setAttribute('role', 'option');
        li.setAttribute('aria-selected', 'false');
        const label = document.createElement('span');
        label.textContent = item.label;
        li.append(label);
        if (item.count) {
          const count = document.createElement('span');
          count.className = 'count';
          count.textContent = item.count;
          li.append(count);
        }
        li.addEventListener('pointerdown', event => { event.preventDefault(); take(i); });
        return li;
      }));
      chosen = -1;
      field.removeAttribute('aria-activedescendant');
      list.hidden = items.length === 0;
    };
    const ask = async () => {
      request?.abort();
      const mine = request = new AbortController();
      try {
        const answer = await fetch(field.dataset.complete, {
          method: 'POST', signal: mine.signal, headers: {'HX-Request': 'true'},
          body: new URLSearchParams({token: token.value, before: field.value.slice(0, field.selectionStart)}),
        });
        if (answer.ok && document.activeElement === field) show(await answer.json());
      } catch { /* the next key asks again */ }
    };
    field.addEventListener('input', () => {
      clearTimeout(timer);
      timer = setTimeout(ask, 120);
    });
    field.addEventListener('blur', close);
    field.addEventListener('click', close);
    field.addEventListener('keydown', event => {
      if (list.hidden) {
        if (event.key === 'ArrowDown' && event.altKey) {
          event.preventDefault();
          ask();
        }
        return;
      }
      switch (event.key) {
        case 'ArrowDown': mark((chosen + 1) % items.length); break;
        case 'ArrowUp': mark((chosen <= 0 ? items.length : chosen) - 1); break;
        case 'Escape': close(); break;
        case 'Enter': case 'Tab':
          if (chosen < 0) { close(); return; }
          take(chosen);
          break;
        default: return;
      }
      event.preventDefault();
    });
  }

  // Live progress. The browser opens the stream anew by itself, and the server goes on behind the last sample that it was told of.
  const progress = document.querySelector('[data-stream]');
  if (progress) watch(progress);

  function watch(progress) {
    const place = document.getElementById('chart'), chart = makeChart(place, progressLines(place));
    const spoken = document.getElementById('spoken');
    let shown = '', again = 0, ended = false, over = false, source = null;
    const close = () => {
      clearTimeout(again);
      source?.close();
      source = null;
      delete progress.dataset.live;
    };
    const open = () => {
      close();
      const mine = source = new EventSource(progress.dataset.stream);
      mine.addEventListener('progress', event => {
        const news = JSON.parse(event.data);
        if (news.html !== shown) replace(progress, shown = news.html);
        chart.add(news.samples);
        progress.dataset.live = 'yes';
        if (news.ended && !ended) {
          ended = true;
          document.getElementById('withdraw')?.remove();
          spoken.textContent = progress.dataset.over;
        }
        if (!news.over) return;
        over = true;
        close();
        progress.dataset.live = 'over';
      });
      mine.onerror = () => {
        if (mine.readyState !== EventSource.CLOSED) return; // it comes back by itself
        clearTimeout(again);
        again = setTimeout(open, 5000); // there were too many, or the server is away
      };
    };
    // A browser has six connections to a host, and a stream takes one: a tab that nobody sees, or a page that was left, gives it back.
    const look = () => {
      if (over) return;
      if (document.hidden) close();
      else if (!source) open();
    };
    document.addEventListener('visibilitychange', look);
    look();
  }

  // Replaces what an element has. A region in it that is scrolled, or has the focus, keeps both.
  function replace(element, html) {
    const regions = () => [...element.querySelectorAll('[role=region]')];
    const before = regions().map(r => ({name: r.getAttribute('aria-label'), left: r.scrollLeft, focus: r === document.activeElement}));
    element.innerHTML = html;
    for (const r of regions()) {
      const was = before.find(b => b.name === r.getAttribute('aria-label'));
      if (was?.left) r.scrollLeft = was.left;
      if (was?.focus) r.focus({preventScroll: true});
    }
  }

  // The chart of a plan, which is asked for whenever the figures of the page have come anew, as often as the server lets it.
  const history = document.querySelector('[data-history]');
  if (history) follow(history);

  function follow(section) {
    const place = document.getElementById('chart'), variants = document.getElementById('variants-chart');
    let all = null, lines = null, measure = '', next = 0, asking = false;
    const draw = answer => {
      section.hidden = false;
      const title = document.getElementById('variants-chart-title');
      document.getElementById('left-out').hidden = !answer.leftOut;
      for (const part of [place, title, variants]) if (part) part.hidden = answer.leftOut;
      if (answer.leftOut) return;
      all ??= makeChart(place, progressLines(place));
      all.set([0, 1, 2, 3].map(i => answer.samples.map(s => i ? s[i] : s[0] / 1000)));
      if (!answer.variants.length) return;
      const now = answer.opened ? 'opened' : 'delivered';
      if (now !== measure) {
        measure = now;
        lines?.remove();
        title.textContent = title.dataset[now];
        lines = makeChart(variants, answer.variants.map((x, i) => ({label: x.name, colour: '--line-' + (i % 5 + 1), dash: [[], [8, 4], [2, 3], [12, 3, 2, 3]][i % 4]})), answer.opened ? ' %' : '');
      }
      lines.set([answer.samples.map(s => s[0] / 1000), ...answer.variants.map(x => x.values)]);
    };
    const ask = async () => {
      if (asking || document.hidden || Date.now() < next) return;
      asking = true;
      try {
        const answer = await fetch(section.dataset.history, {headers: {'HX-Request': 'true'}});
        if (answer.ok) {
          const news = await answer.json();
          next = news.again ? Date.now() + news.again : Infinity;
          if (news.leftOut || news.samples.length) draw(news);
        }
      } catch { /* the next figures ask again */ }
      asking = false;
    };
    document.addEventListener('htmx:after:swap', ask);
    document.addEventListener('visibilitychange', ask);
    ask();
  }

  // The lines of a task, and of a plan, named by the place that they are drawn at.
  function progressLines(place) {
    return [
      {label: place.dataset.delivered, colour: '--delivered'}, {label: place.dataset.notified, colour: '--notified', dash: [8, 4]},
      {label: place.dataset.pending, colour: '--pending', dash: [2, 3]},
    ];
  }

  function makeChart(place, lines, unit = '') {
    let data = [[], ...lines.map(() => [])], plot = null;
    const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const size = () => ({width: Math.max(place.clientWidth - 24, 200), height: 240});
    const language = document.documentElement.lang;
    const short = new Intl.NumberFormat(language, {notation: 'compact', maximumFractionDigits: 1});
    const full = new Intl.NumberFormat('en');
    const moment = t => {
      const at = new Date(t * 1000);
      return data[0].at(-1) - data[0][0] < 86400 ? at.toLocaleTimeString(language) : at.toLocaleString(language);
    };
    const draw = () => {
      plot?.destroy();
      const axis = {stroke: colour('--soft'), grid: {stroke: colour('--line'), width: 1}, ticks: {stroke: colour('--line'), width: 1}, font: '12px system-ui, sans-serif'};
      plot = new uPlot({
        ...size(),
        series: [
          {label: place.dataset.time, value: (_, t) => t == null ? '—' : moment(t)},
          ...lines.map(l => ({label: l.label, stroke: colour(l.colour), width: 2, dash: l.dash, points: {show: (u, i) => u.data[i].filter(v => v != null).length < 3}, value: (_, v) => v == null ? '—' : full.format(v) + unit})),
        ],
        scales: {y: {range: (_, min, max) => [0, Math.max(max * 1.05, 1)]}},
        axes: [{...axis, space: 70, incrs: [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800, 2592000], values: [
          [86400, '{YYYY}-{MM}-{DD}', null, null, null, null, null, null, 1],
          [60, '{HH}:{mm}', null, null, null, null, null, null, 1],
          [1, '{HH}:{mm}:{ss}', null, null, null, null, null, null, 1],
        ]}, {...axis, size: 56, values: (_, ticks) => ticks.map(v => Number.isInteger(v) ? short.format(v) + unit : '')}],
        cursor: {y: false},
      }, data, place);
    };
    const show = () => {
      if (!plot || data[0].length < 4) draw();
      else plot.setData(data);
    };
    addEventListener('resize', () => plot?.setSize(size()));
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { if (plot) draw(); });
    return {
      add(samples) {
        for (const [at, ...values] of samples) {
          const t = at / 1000, last = data[0].at(-1);
          if (last !== undefined && t < last) continue; // told before
          if (t !== last) data.forEach(column => column.push(t));
          values.forEach((v, i) => { data[i + 1][data[0].length - 1] = v; });
        }
        if (data[0].length > 0) show();
      },
      set(columns) {
        data = columns;
        show();
      },
      remove() {
        plot?.destroy();
        plot = null;
      },
    };
  }
})();
