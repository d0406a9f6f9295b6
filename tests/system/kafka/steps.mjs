// What the Node programs share: steps with their line of outcome, waiting, and kafkajs with every codec.
import {createRequire} from 'node:module';
const require = createRequire(import.meta.url);

export class Skip extends Error {}

export function check(ok, what) {
    if (!ok) throw new Error(what);
}

export function equal(got, want, what) {
    const g = JSON.stringify(got), w = JSON.stringify(want);
    if (g !== w) throw new Error(`${what}: ${g.slice(0, 300)} instead of ${w.slice(0, 300)}`);
}

export const sleep = ms => new Promise(done => setTimeout(done, ms));

export async function until(what, ready, ms = 30000) {
    const end = Date.now() + ms;
    while (!await ready()) {
        if (Date.now() > end) throw new Error(`waited ${ms} ms for ${what}`);
        await sleep(25);
    }
}

/// Runs the steps (or the one named behind BOOTSTRAP and PREFIX) in turn and prints what became of them; exits 1 if one failed.
export async function run(steps, after) {
    let failed = 0;
    const one = (text) => String(text).replace(/\s+/g, ' ').slice(0, 500);
    for (const [name, step] of Object.entries(steps)) {
        if (process.argv[4] && process.argv[4] !== name) continue;
        try {
            await step();
            console.log(`ok ${name}`);
        } catch (e) {
            if (e instanceof Skip) {
                console.log(`skip ${name}: ${one(e.message)}`);
                continue;
            }
            failed++;
            console.error(e);
            console.log(`fail ${name}: ${one(e.message)}`);
        }
    }
    await after();
    process.exit(failed ? 1 : 0);
}

const lz4 = () => {
    const lz4js = require('lz4js');
    return {
        compress: async encoder => Buffer.from(lz4js.compress(encoder.buffer)),
        decompress: async bytes => Buffer.from(lz4js.decompress(bytes)),
    };
};

const zstd = () => {
    const z = require('@bokuweb/zstd-wasm');
    const ready = z.init();
    return {
        compress: async encoder => (await ready, Buffer.from(z.compress(encoder.buffer, 3))),
        decompress: async bytes => (await ready, Buffer.from(z.decompress(bytes))),
    };
};

/// kafkajs, which brings gzip along; the others are its plug-ins.
export function kafkajs() {
    process.env.KAFKAJS_NO_PARTITIONER_WARNING = '1';
    const lib = require('kafkajs');
    lib.CompressionCodecs[lib.CompressionTypes.Snappy] = require('kafkajs-snappy');
    lib.CompressionCodecs[lib.CompressionTypes.LZ4] = lz4;
    lib.CompressionCodecs[lib.CompressionTypes.ZSTD] = zstd;
    return lib;
}
