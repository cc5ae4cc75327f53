'use strict'
// A Haraka plugin for the benchmarks: everybody may relay, and all mail goes to the sink that bench_sink names as
// ADDRESS:PORT. It does the least that a relay needs, so that Haraka's own work is measured.

exports.register = function () {
    const [address, port] = this.config.get('bench_sink').split(':')
    this.sink = { exchange: address, port: Number(port), priority: 0 }
}

exports.hook_connect = function (next, connection) {
    connection.relaying = true
    next()
}

exports.hook_rcpt = function (next) {
    next(OK)
}

exports.hook_get_mx = function (next) {
    next(OK, this.sink)
}
