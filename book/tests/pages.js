// Looks at a page of the book as a reader would, and returns what is wrong with it. Files that cannot be had, errors on the
// console and requests to other servers are found by the program that runs this.
const problems = [];
const page = document.querySelector("main");
if (!page) return ["there is no <main>"];
if (!document.title) problems.push("there is no title");

for (const image of document.images) {
  if (!image.complete || image.naturalWidth === 0) problems.push(`the image ${image.src} is missing`);
  if (!image.alt) problems.push(`the image ${image.src} has no text`);
}
for (const svg of page.querySelectorAll("figure svg")) {
  const { width, height } = svg.getBoundingClientRect();
  if (width < 100 || height < 50) problems.push(`a plot is only ${width} by ${height} pixels`);
}
for (const formula of page.querySelectorAll("math")) {
  if (formula.querySelector("merror")) problems.push(`a formula has an error: ${formula.textContent}`);
  if (formula.getBoundingClientRect().width === 0) problems.push(`a formula is empty: ${formula.outerHTML}`);
}
for (const left of [/\{\{#/, /ANCHOR/, /\$[^$]*\\[a-z]+[^$]*\$/]) {
  const found = page.innerText.match(left);
  if (found) problems.push(`the source shows through: ${found[0]}`);
}
// Every theme must be readable: text stands out from what is behind it.
const luminance = (color) => {
  const [r, g, b] = color.match(/[\d.]+/g).map((x) => x / 255).map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const html = document.documentElement;
const themes = ["light", "rust", "coal", "navy", "ayu"];
const before = themes.filter((theme) => html.classList.contains(theme));
for (const theme of themes) {
  html.classList.remove(...themes);
  html.classList.add(theme);
  const behind = luminance(getComputedStyle(html).backgroundColor);
  for (const text of page.querySelectorAll("p, td, figcaption, math, figure svg")) {
    const front = luminance(getComputedStyle(text).color);
    const contrast = (Math.max(front, behind) + 0.05) / (Math.min(front, behind) + 0.05);
    if (contrast < 4.5) problems.push(`${theme}: contrast ${contrast.toFixed(1)} of <${text.localName}>`);
  }
}
html.classList.remove(...themes);
html.classList.add(...before);
// Wide content scrolls by itself and does not make the page scroll.
if (html.scrollWidth > html.clientWidth + 1) problems.push(`the page is ${html.scrollWidth} pixels wide, the window ${html.clientWidth}`);
return [...new Set(problems)];
