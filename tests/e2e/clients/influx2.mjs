// npm @influxdata/influxdb-client: what node-red, Home Assistant add-ons and many scripts write with.
// node influx2.mjs URL TOKEN DATABASE → one JSON object as the Python scripts beside it print.
import {createRequire} from 'node:module'
import {join} from 'node:path'

const [url, token, database] = process.argv.slice(2)
const require = createRequire(join(process.env.CLIENT_MODULES, 'package.json'))
const {InfluxDB, Point} = require('@influxdata/influxdb-client')
const calls = {}

async function call(name, run) {
  try {
    calls[name] = {value: (await run()) ?? null}
  } catch (error) {
    calls[name] = {error: `${error.statusCode ?? ''} ${error.message}`, type: error.constructor.name}
  }
}

const START_S = 1767225600

async function write(options, fill, writeToken = token) {
  const api = new InfluxDB({url, token: writeToken}).getWriteApi('any', database, options.precision ?? 'ns', {
    maxRetries: 0,
    ...options.write,
  })
  fill(api)
  await api.close()
}

await call('write_point', () =>
  write({}, api =>
    api.writePoint(
      new Point('js').tag('host', 'a').floatField('usage', 1.5).intField('n', 3).stringField('note', 'a "b" c')
        .timestamp(`${START_S}000000000`)
    )
  )
)
await call('write_records', () =>
  write({precision: 's', write: {batchSize: 40}}, api => {
    for (let n = 0; n < 100; n++) api.writeRecord(`jsmany,host=b n=${n}i ${START_S + n}`)
  })
)
await call('write_gzip', () =>
  write({precision: 's', write: {gzipThreshold: 1}}, api => {
    for (let n = 0; n < 100; n++) api.writeRecord(`jsgzip,host=b n=${n}i ${START_S + n}`)
  })
)
await call('write_wrong', () => write({}, api => api.writeRecord('js usage=')))
await call('write_unauthorised', () => write({}, api => api.writeRecord('js n=1i'), 'wrong'.repeat(8)))
console.log(JSON.stringify(calls))
