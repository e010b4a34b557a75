// Compiles every kernel with the browser's compiler, through plain WebGPU, and runs the parity cases through wgpu.
const module = await import("./llm_gpu_browser.js");
await module.default();

const adapter = await navigator.gpu.requestAdapter();
if (adapter === null) throw new Error("the browser has no WebGPU adapter");
const features = ["subgroups", "shader-f16"].filter((feature) => adapter.features.has(feature));
// Without limits of its own: the device has those that every WebGPU device must have.
const device = await adapter.requestDevice({ requiredFeatures: features });

const compile = async ({ package: from, name, code, features: needed, portable }) => {
  const shader = { package: from, name };
  const missing = portable ? needed.filter((feature) => !features.includes(feature)) : ["a native device"];
  if (missing.length > 0) return { ...shader, missing };
  device.pushErrorScope("validation");
  const built = device.createShaderModule({ code, label: name });
  const info = await built.getCompilationInfo();
  const messages = info.messages.map(({ type, lineNum, message }) => `${type} in line ${lineNum}: ${message}`);
  let refused = info.messages.some(({ type }) => type === "error");
  try {
    await device.createComputePipelineAsync({ layout: "auto", compute: { module: built, entryPoint: name } });
  } catch (error) {
    refused = true;
    messages.push(error.message);
  }
  const error = await device.popErrorScope();
  if (error !== null) {
    refused = true;
    messages.push(error.message);
  }
  return { ...shader, refused, messages };
};

const shaders = [];
for (const shader of module.shaders()) shaders.push(await compile(shader));
const planted = await compile(module.plantedShader());
const cases = (await module.parity()).map(({ name, compared, error, tolerance }) => ({ name, compared, error, tolerance }));
return {
  adapter: [adapter.info.vendor, adapter.info.architecture, adapter.info.description].filter(Boolean).join(" "),
  features,
  shaders,
  planted,
  cases,
};
