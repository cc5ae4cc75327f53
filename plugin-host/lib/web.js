'use strict'
// A web server for plugins, as Haraka has one: express, and ws for init_wss, of the instance's packages. `server.http` has express, app, server
// and wss; plugins add what they serve in init_http and init_wss. Files of DIR/http/html come after that.

const fs = require('node:fs')
const http = require('node:http')
const { createRequire } = require('node:module')
const path = require('node:path')
const { runHook } = require('./chain')
const { sentenceOf } = require('./place')

const HOOKS = ['init_http', 'init_wss']
const AGAIN_MS = 200 // the host before this one has the port until it has finished

class Web {
    // `place`: { host, port } to listen on.
    constructor(host, place) {
        this.host = host
        this.place = place
        this.required = createRequire(path.join(host.directory, 'package.json'))
    }

    // Runs init_http and init_wss, then listens. Whether there is a server: nobody gets one without express.
    async start() {
        const { server, registry, logger } = this.host
        const express = this.load('express')
        if (!express) return false
        const app = express()
        this.server = http.createServer(app)
        this.server.on('error', (error) => this.failed(error))
        this.server.on('listening', () => logger.lognotice(`http: listening on ${this.place.host} port ${this.place.port}`))
        server.http = { cfg: { listen: `${this.place.host}:${this.place.port}` }, express, app, server: this.server }
        await runHook(registry, logger, 'init_http', server, [])
        const files = path.join(this.host.directory, 'http', 'html')
        if (fs.existsSync(files)) app.use(express.static(files))
        app.use(notFound)
        await this.startSockets(server)
        this.listen()
        return true
    }

    async startSockets(server) {
        const { registry, logger } = this.host
        const ws = registry.has('init_wss') && this.load('ws')
        if (!ws) return
        server.http.wss = new (ws.WebSocketServer || ws.Server)({ server: this.server })
        server.http.wss.on('error', () => {}) // those of the server, which it repeats
        await runHook(registry, logger, 'init_wss', server, [])
    }

    load(name) {
        try {
            return this.required(name)
        } catch (error) {
            this.host.logger.logerror(`http: ${name} does not load: npm install --prefix ${this.host.directory} ${name} (${sentenceOf(error)})`)
            return undefined
        }
    }

    listen() {
        if (!this.closed) this.server.listen(this.place.port, this.place.host)
    }

    failed(error) {
        const { logger } = this.host
        if (error.code !== 'EADDRINUSE') return logger.logerror(`http: ${sentenceOf(error)}`)
        if (!this.waits) logger.logwarn(`http: ${sentenceOf(error)}; tried again until it is free`)
        this.waits = true
        setTimeout(() => this.listen(), AGAIN_MS).unref()
    }

    // Requests under way end with the process.
    close() {
        this.closed = true
        if (this.server) this.server.close()
    }
}

function notFound(request, response) {
    response.status(404)
    if (request.accepts(['html', 'json']) === 'json') response.json({ err: 'Not found' })
    else response.type('text').send('Not found')
}

module.exports = { Web, HOOKS }
