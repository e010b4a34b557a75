// Live figures: in each <figure class="widget" data-widget="NAME"> the pictures make room for controls and for
// pictures that WebAssembly draws. Without JavaScript, or if the module cannot be had, the page stays as it is.
"use strict";
(() => {
  const here = document.currentScript.src;
  const language = document.documentElement.lang.startsWith("zh") ? "zh" : "en";
  const words = {
    en: {
      position: "position m", base: "base", pairing: "pairing", scaling: "scaling", score: "score at distance m",
      interleaved: "interleaved: (0, 1), (2, 3) …", "half-split": "half-split: (0, 32), (1, 33) …",
      linear: "linear, 4 ×", "dynamic-ntk": "dynamic NTK, 4 × from 2048", "static-ntk": "static NTK, 4 ×",
      yarn: "YaRN, 4 × from 2048", llama3: "Llama 3.1, 8 × from 8192",
    },
    zh: {
      position: "位置 m", base: "底数", pairing: "配对方式", scaling: "缩放方式", score: "距离 m 处的得分",
      interleaved: "相邻配对：(0, 1), (2, 3) …", "half-split": "前后半配对：(0, 32), (1, 33) …", none: "无",
      linear: "线性，4 ×", "dynamic-ntk": "动态 NTK，2048 起 4 ×", "static-ntk": "静态 NTK，4 ×",
      yarn: "YaRN，2048 起 4 ×", llama3: "Llama 3.1，8192 起 8 ×",
    },
  }[language];

  // Each widget: its controls in order, what they offer, and how it draws into the elements of a figure.
  const widgets = {
    rope: {
      controls: { position: { max: 65536, step: 1 }, base: { step: "any" }, pairing: "ropePairings", scaling: "ropeScalings" },
      pictures: ["ropePlanes", "ropeDecay"],
      number: ["score", "ropeScore"],
    },
  };

  const element = (name, properties = {}, children = []) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  const control = (module, figure, name, kind) => {
    const value = figure.dataset[name];
    const input = typeof kind === "string"
      ? element("select", { name }, module[kind]().map((choice) => new Option(words[choice] ?? choice, choice, false, choice === value)))
      : element("input", { name, type: "number", min: 0, ...kind, value });
    return element("label", {}, [`${words[name]} `, input]);
  };

  const start = (module, figure) => {
    const { controls, pictures, number: [label, compute] } = widgets[figure.dataset.widget];
    const labels = Object.entries(controls).map(([name, kind]) => control(module, figure, name, kind));
    const inputs = labels.map((label) => label.querySelector("input, select"));
    const slider = element("input", { type: "range", min: 0, max: 256, ariaLabel: words.position });
    const output = element("output", { className: "widget-number" });
    const drawings = pictures.map(() => element("div"));
    const still = [...figure.querySelectorAll("svg, img")];
    const draw = () => {
      try {
        const values = inputs.map((input) => (input.type === "number" ? input.valueAsNumber : input.value));
        pictures.forEach((picture, index) => { drawings[index].innerHTML = module[picture](...values); });
        output.value = `${words[label]}: ${module[compute](...values).toFixed(6)}`;
        output.dataset.value = module[compute](...values);
      } catch (error) {
        output.value = error.message;
        delete output.dataset.value;
      }
    };
    slider.value = inputs[0].value;
    slider.addEventListener("input", () => { inputs[0].value = slider.value; draw(); });
    for (const input of inputs) {
      input.addEventListener("input", () => { slider.value = inputs[0].value; draw(); });
    }
    draw();
    drawings.forEach((drawing, index) => still[index].replaceWith(drawing)); // the captions stay
    figure.prepend(element("div", { className: "widget-controls" }, [...labels, slider, output]));
    figure.dataset.state = "live";
  };

  const figures = [...document.querySelectorAll("figure.widget[data-widget]")].filter(({ dataset }) => dataset.widget in widgets);
  if (figures.length === 0) return;
  import(new URL("llm_blocks_widgets.js", here))
    .then(async (module) => {
      await module.default();
      figures.forEach((figure) => start(module, figure));
    })
    .catch((error) => console.warn("the pictures stay as they are:", error));
})();
