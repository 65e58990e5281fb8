import { bundled } from "./bundled.mjs";

await bundled("unit.ts");
