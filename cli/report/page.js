"use strict";
// What is data goes into the page by `textContent` and by attributes that are no code, and by nothing else.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";

  // An element with a class, and texts or elements in it.
  function element(tag, name, ...inside) {
    const made = document.createElement(tag);
    if (name) made.className = name;
    made.append(...inside.filter((part) => part !== null));
    return made;
  }

  function drawn(tag, attributes) {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  }

  const figures = (number) => number.toLocaleString("en");
  const counted = (number, thing) => `${figures(number)} ${thing}${number === 1 ? "" : "s"}`;

  // Texts: null, a text, or [its beginning, how long it was].
  function texted(text) {
    if (text === null || text === undefined) return element("p", "null", "null");
    if (text === "") return element("p", "null", "empty");
    if (typeof text === "string") return element("pre", "text", text);
    const note = `cut: the first ${figures(text[0].length)} of ${figures(text[1])} characters`;
    return element("div", "", element("pre", "text", text[0]), element("p", "cut", note));
  }

  const plain = (text) => (typeof text === "string" ? text : text ? text[0] : "");

  // The reader

  const reader = { table: 0, rows: [], at: 0 };

  function haystack(row) {
    if (row.hay === undefined) {
      const parts = [row.key, ...row.values.map(plain)];
      for (const event of row.events) {
        parts.push(event.column, event.name || "", plain(event.value), plain(event.answer), plain(event.reasoning));
        for (const [, content] of event.prompt || []) parts.push(plain(content));
      }
      row.hay = parts.join("\n").toLowerCase();
    }
    return row.hay;
  }

  function fits(row, status, words) {
    if (status === "trouble" && !row.events.some((event) => event.kind === "failure")) return false;
    if (status && status !== "trouble" && row.status !== status) return false;
    return words.every((word) => haystack(row).includes(word));
  }

  function choose() {
    const reading = data.readings[reader.table];
    const words = byId("reader-filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const status = byId("reader-status").value;
    const before = reader.rows[reader.at];
    reader.rows = reading.rows.filter((row) => fits(row, status, words));
    reader.at = Math.max(0, reader.rows.indexOf(before));
    byId("reader-sample").textContent = `Here: ${reading.sample}.`;
    const texts = reading.types.map((type) => /^("|text)/.test(type));
    const list = reader.rows.map((row, at) => {
      const number = element("span", "number", row.position === null ? row.status : `${row.position + 1}`);
      const first = row.values.map(plain).find((text, column) => texts[column] && text.trim() && text !== row.key) || row.key;
      const button = element("button", "", number, ` ${first.slice(0, 60)}`);
      button.type = "button";
      button.tabIndex = -1;
      button.addEventListener("click", () => show(at));
      return element("li", "", button);
    });
    byId("reader-list").replaceChildren(...list);
    show(reader.at);
  }

  function show(at) {
    const buttons = byId("reader-list").querySelectorAll("button");
    const old = buttons[reader.at];
    if (old) {
      old.removeAttribute("aria-current");
      old.tabIndex = -1;
    }
    reader.at = Math.min(Math.max(at, 0), Math.max(reader.rows.length - 1, 0));
    const button = buttons[reader.at];
    if (button) {
      button.setAttribute("aria-current", "true");
      button.tabIndex = 0;
      const list = byId("reader-list");
      if (list.contains(document.activeElement)) button.focus();
      const top = button.offsetTop - list.offsetTop;
      if (top < list.scrollTop || top + button.offsetHeight > list.scrollTop + list.clientHeight) {
        list.scrollTop = top - list.clientHeight / 2;
      }
    }
    const some = reader.rows.length > 0;
    byId("reader-place").textContent = some ? `${figures(reader.at + 1)} of ${figures(reader.rows.length)}` : "none";
    byId("reader-previous").disabled = !some || reader.at === 0;
    byId("reader-next").disabled = !some || reader.at === reader.rows.length - 1;
    const row = reader.rows[reader.at];
    const inside = row ? told(data.readings[reader.table], row) : [titled("No row is like that")];
    byId("reader-row").replaceChildren(...inside);
  }

  function titled(...inside) {
    const title = element("h3", "", ...inside);
    title.id = "reader-title";
    return title;
  }

  function told(reading, row) {
    const place = row.position === null ? "" : ` row ${figures(row.position + 1)}, `;
    const tag = element("span", `tag ${row.status === "kept" ? "good" : row.status === "failed" ? "bad" : ""}`, row.status);
    const inside = [titled(`${reading.table} `, element("small", "", `${place} key ${row.key} `), tag)];
    if (row.values.length) {
      const values = row.values.map((value, at) =>
        element(
          "div", "",
          element("dt", "", `${reading.columns[at]} `, element("small", "", reading.types[at])),
          element("dd", "", texted(value)),
        ),
      );
      inside.push(element("dl", "values", ...values));
    }
    inside.push(element("h4", "", "How it came about"));
    if (row.events.length) {
      const list = element("ol", "events", ...row.events.map((event) => element("li", "", happened(event))));
      inside.push(list);
    } else {
      const why = "Nothing was drawn or asked for this row alone. An answer that several rows share belongs to the first of them.";
      inside.push(element("p", "quiet", why));
    }
    return inside;
  }

  function happened(event) {
    const kinds = { call: "Asked", draw: "Drawn", mutation: "Prompt drawn", failure: event.stops ? "Failed, and the row stopped" : "Failed, and became null" };
    const where = [
      event.table ? `in ${event.table}` : "",
      event.round ? `round ${event.round}` : "",
      event.index !== undefined && event.index !== null ? `number ${event.index + 1}` : "",
      event.reask ? `asked again (${event.reask})` : "",
    ].filter(Boolean);
    const head = element(
      "h5", "", `${kinds[event.kind]} `, element("span", "what", event.column),
      element("small", "", where.length ? ` ${where.join(", ")}` : ""),
    );
    const made = element("section", `event ${event.kind}${event.setAside ? " aside" : ""}`, head);
    const facts = event.kind === "call" ? measured(event) : [];
    if (event.place) facts.unshift(event.place);
    if (facts.length) made.append(element("p", "facts", facts.join(" · ")));
    if (event.kind === "call") {
      made.append(...asked(event));
    } else if (event.kind === "mutation") {
      made.append(said(`of ${plain(event.value)}`, event.name));
    } else if (event.kind === "failure") {
      made.append(said(event.name, event.value));
    } else {
      made.append(said("value", event.value));
    }
    return made;
  }

  function measured(event) {
    const facts = [event.model === event.backend ? event.backend : `${event.backend}: ${event.model}`];
    if (typeof event.inputTokens === "number") facts.push(`${figures(event.inputTokens)} tokens in`);
    if (typeof event.outputTokens === "number") facts.push(`${figures(event.outputTokens)} out`);
    if (typeof event.costUsd === "number") facts.push(`$${event.costUsd.toFixed(6)}`);
    if (typeof event.seconds === "number") facts.push(`${event.seconds.toFixed(2)} s`);
    if (event.attempts > 1) facts.push(`sent ${event.attempts} times`);
    if (event.finish && event.finish !== "stop") facts.push(`ended by: ${event.finish}`);
    if (event.setAside) facts.push(`set aside by run ${event.setAside}`);
    if (event.at) facts.push(`${event.at} UTC`);
    return facts;
  }

  function asked(event) {
    const prompt = event.prompt || [];
    const length = prompt.reduce((sum, [, content]) => sum + plain(content).length, 0);
    const sent = element(
      "details", "",
      element("summary", "", `Prompt as sent: ${counted(prompt.length, "message")}, ${counted(length, "character")}`),
      ...prompt.map(([role, content]) => said(role, content)),
    );
    sent.open = length < 2500;
    const parts = [sent];
    if (event.reasoning) {
      const summary = `Reasoning: ${counted(plain(event.reasoning).length, "character")}`;
      parts.push(element("details", "", element("summary", "", summary), said("reasoning", event.reasoning)));
    }
    parts.push(said("answer", event.answer));
    return parts;
  }

  function said(role, text) {
    return element("div", "said", element("p", "role", role), texted(text));
  }

  function openRow(table, position) {
    const at = data.readings.findIndex((reading) => reading.table === table);
    if (at < 0) return;
    byId("reader-filter").value = "";
    byId("reader-status").value = "";
    byId("reader-table").value = String(at);
    reader.table = at;
    choose();
    const found = reader.rows.findIndex((row) => row.position === position);
    if (found >= 0) {
      show(found);
    } else {
      const note = `Row ${figures(position + 1)} is not among those on this page.`;
      byId("reader-row").replaceChildren(titled(note), element("p", "quiet", `On this page: ${data.readings[at].sample}.`));
    }
    byId("reader-row").focus({ preventScroll: true });
    byId("rows").scrollIntoView();
  }

  function startReader() {
    if (!data.readings.length) return;
    data.readings.forEach((reading, at) => {
      const option = element("option", "", `${reading.table} (${figures(reading.rows.length)})`);
      option.value = String(at);
      byId("reader-table").append(option);
    });
    byId("reader-controls").hidden = byId("reader").hidden = false;
    byId("reader-controls").addEventListener("submit", (event) => event.preventDefault());
    byId("reader-table").addEventListener("change", (event) => {
      reader.table = Number(event.target.value);
      reader.rows = [];
      choose();
    });
    byId("reader-status").addEventListener("change", choose);
    byId("reader-filter").addEventListener("input", choose);
    byId("reader-previous").addEventListener("click", () => show(reader.at - 1));
    byId("reader-next").addEventListener("click", () => show(reader.at + 1));
    const steps = { j: 1, k: -1, ArrowRight: 1, ArrowLeft: -1 };
    byId("rows").addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select")) return;
      const inList = byId("reader-list").contains(event.target);
      const step = steps[event.key] || (inList && { ArrowDown: 1, ArrowUp: -1 }[event.key]);
      if (step) {
        show(reader.at + step);
        event.preventDefault();
      } else if (event.key === "/") {
        byId("reader-filter").focus();
        event.preventDefault();
      }
    });
    document.addEventListener("click", (event) => {
      const link = event.target.closest("button.link");
      if (link) openRow(link.dataset.table, Number(link.dataset.row));
    });
    choose();
  }

  // Maps

  const WIDTH = 600, HEIGHT = 400, MARGIN = 16;

  function startMap(place) {
    const map = data.maps[Number(place.dataset.map)];
    const points = map.points.map(([x, y, row, text, labels]) => ({
      x: MARGIN + x * (WIDTH - 2 * MARGIN), y: HEIGHT - MARGIN - y * (HEIGHT - 2 * MARGIN), row, text, labels,
    }));
    const svg = drawn("svg", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`, tabindex: "0", role: "application",
      "aria-label": `Map of ${counted(points.length, "vector")} of ${map.table}.${map.column}: arrow keys go from one to the next in that direction, Enter opens its row`,
    });
    const radius = points.length > 600 ? 2.6 : points.length > 150 ? 3.6 : 5;
    const circles = points.map((point) => drawn("circle", { cx: point.x.toFixed(1), cy: point.y.toFixed(1), r: radius }));
    svg.append(...circles);
    const told = element("div", "told");
    told.setAttribute("aria-live", "polite");
    const side = element("div", "");
    let labelling = map.labellings.length ? 0 : -1;
    let chosen = -1;

    const labelOf = (point) => (labelling < 0 ? "" : map.labellings[labelling].values[point.labels[labelling]] || "");

    function select(at) {
      if (chosen >= 0) circles[chosen].classList.remove("chosen");
      chosen = at;
      circles[at].classList.add("chosen");
      svg.append(circles[at]);
      const point = points[at];
      const button = element("button", "link", `row ${point.row + 1}`);
      button.type = "button";
      button.dataset.table = map.table;
      button.dataset.row = String(point.row);
      const label = labelOf(point);
      told.replaceChildren(
        element("p", "quiet", button, label ? ` · ${map.labellings[labelling].name}: ${label}` : ""),
        element("p", "", point.text || "(no text)"),
      );
    }

    function nearest(x, y, most, admits) {
      let best = -1, least = most;
      points.forEach((point, at) => {
        const away = (point.x - x) ** 2 + (point.y - y) ** 2;
        if (away < least && (!admits || admits(point, at))) [best, least] = [at, away];
      });
      return best;
    }

    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const scale = WIDTH / box.width;
      const at = nearest((event.clientX - box.left) * scale, (event.clientY - box.top) * scale, 400);
      if (at >= 0 && at !== chosen) select(at);
    });
    svg.addEventListener("focus", () => { if (chosen < 0) select(0); });
    svg.addEventListener("click", () => { if (chosen >= 0) openRow(map.table, points[chosen].row); });
    svg.addEventListener("keydown", (event) => {
      const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (way && chosen >= 0) {
        const from = points[chosen];
        const ahead = (point, at) => {
          const along = (point.x - from.x) * way[0] + (point.y - from.y) * way[1];
          const aside = Math.abs((point.x - from.x) * way[1]) + Math.abs((point.y - from.y) * way[0]);
          return at !== chosen && along > 0 && aside <= along;
        };
        const at = nearest(from.x, from.y, Infinity, ahead);
        if (at >= 0) select(at);
        event.preventDefault();
      } else if (event.key === "Enter" && chosen >= 0) {
        openRow(map.table, points[chosen].row);
        event.preventDefault();
      }
    });

    const legend = element("ul", "legend");
    let lit = null;

    function colour() {
      circles.forEach((circle, at) => {
        const number = labelling < 0 ? null : points[at].labels[labelling];
        const away = lit !== null && number !== lit ? " away" : "";
        const name = number === null ? "" : number < 0 ? "none" : `l${number}`;
        circle.setAttribute("class", name + away + (at === chosen ? " chosen" : ""));
      });
    }

    function relabel() {
      lit = null;
      const values = labelling < 0 ? [] : map.labellings[labelling].values;
      legend.replaceChildren(
        ...values.map((value, number) => {
          const dot = drawn("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" });
          dot.append(drawn("circle", { cx: 5, cy: 5, r: 4.5, class: `l${number}` }));
          const button = element("button", "", dot, value || "empty");
          button.type = "button";
          button.setAttribute("aria-pressed", "false");
          button.addEventListener("click", () => {
            lit = lit === number ? null : number;
            legend.querySelectorAll("button").forEach((one, at) => one.setAttribute("aria-pressed", String(lit === at)));
            colour();
          });
          return element("li", "", button);
        }),
      );
      colour();
    }

    if (map.labellings.length > 1) {
      const select = element("select", "");
      map.labellings.forEach((one, at) => {
        const option = element("option", "", one.name);
        option.value = String(at);
        select.append(option);
      });
      select.addEventListener("change", () => {
        labelling = Number(select.value);
        relabel();
      });
      side.append(element("label", "quiet", "Coloured by ", select));
    } else if (map.labellings.length) {
      side.append(element("span", "quiet", `Coloured by ${map.labellings[0].name}`));
    }
    relabel();
    side.append(legend, element("p", "quiet", "Point at a vector to read its text; click it to open its row."), told);
    place.replaceChildren(svg, side);
  }

  startReader();
  document.querySelectorAll(".map").forEach(startMap);
})();
