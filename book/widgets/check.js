// Moves the first live figure of the page as a reader would, and returns what it then shows. The runner puts the settings in
// front of this text: const settings = [{ position: "100", base: "10000", .. }, ..];
const figure = document.querySelector("figure.widget[data-widget]");
for (let waited = 0; figure.dataset.state !== "live" && waited < 10000; waited += 20) {
  await new Promise((resolve) => setTimeout(resolve, 20));
}
if (figure.dataset.state !== "live") throw new Error("the figure did not come alive");
const output = figure.querySelector("output");
return settings.map((setting) => {
  for (const [name, value] of Object.entries(setting)) {
    const input = figure.querySelector(`[name="${name}"]`);
    input.value = value;
    input.dispatchEvent(new Event("input", { bubbles: true }));
  }
  return { value: Number(output.dataset.value ?? NaN), text: output.value, pictures: [...figure.querySelectorAll("svg")].map((svg) => svg.outerHTML.length) };
});
