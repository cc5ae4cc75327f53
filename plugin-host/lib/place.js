'use strict'
// Where an error is, in the file of a plugin's author.

const INTERNAL = /^(node:|internal\/)/

// { file, line } of the first place in the error's stack that lies in one of `homes`; else the first one that is no part
// of Node; nothing when there is none.
function placeOf(error, homes = []) {
    const stack = error && typeof error.stack === 'string' ? error.stack : String(error)
    const places = []
    // "file:line" on the first line of a syntax error, "at f (file:line:column)" below.
    for (const [, file, line] of stack.matchAll(/(?:^|\(|at (?:async )?)(?:file:\/\/)?((?:\/|node:|internal\/)[^\s()]*?):(\d+)(?::\d+)?\)?$/gm)) {
        if (!INTERNAL.test(file)) places.push({ file, line: Number(line) })
    }
    return places.find(({ file }) => homes.some((home) => file.startsWith(home))) || places[0]
}

// The sentence of an error, without its stack and whatever else stands on further lines.
function sentenceOf(error) {
    const message = error && typeof error.message === 'string' ? error.message : String(error)
    const [sentence] = message.split('\n')
    return error && error.name && error.name !== 'Error' ? `${error.name}: ${sentence}` : sentence
}

module.exports = { placeOf, sentenceOf }
