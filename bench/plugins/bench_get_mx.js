'use strict'
// get_mx alone: all mail goes to the sink that bench_sink names as ADDRESS:PORT.

exports.register = function () {
    const [address, port] = this.config.get('bench_sink').split(':')
    this.sink = { exchange: address, port: Number(port), priority: 0 }
}

exports.hook_get_mx = function (next) {
    next(OK, this.sink)
}
