// ow.feeds: an action that is told of the life of a trigger; ow.routes, which need an API gateway.
import assert from 'node:assert/strict'
import { ow, recordOf, refused } from './connect.mjs'

// A feed that fires its trigger at once, with the key that it is given.
const feed = `
import base64, json, os, urllib.request

def main(args):
    if args["lifecycleEvent"] == "CREATE":
        name = args["triggerName"].rpartition("/")[2]
        request = urllib.request.Request(
            os.environ["__OW_API_HOST"] + "/api/v1/namespaces/_/triggers/" + name,
            json.dumps({"from": "feed"}).encode(),
            {"Authorization": "Basic " + base64.b64encode(args["authKey"].encode()).decode(), "Content-Type": "application/json"},
        )
        urllib.request.urlopen(request)
    return {"event": args["lifecycleEvent"], "trigger": args["triggerName"], "every": args.get("every")}
`
await ow.packages.create('clock')
await ow.actions.create({ name: 'clock/ticks', action: feed, kind: 'python:3.11', annotations: { feed: true } })
await ow.actions.create({ name: 'seen', action: 'def main(args):\n    return {"from": args["from"]}\n', kind: 'python:3.11' })
await ow.triggers.create({ name: 'tick', annotations: { feed: '/_/clock/ticks' } })
await ow.rules.create({ name: 'see', action: 'seen', trigger: 'tick' })
assert.deepEqual((await ow.packages.get('clock')).feeds.map(one => one.name), ['ticks'])

for (const [verb, event] of [['create', 'CREATE'], ['get', 'READ'], ['update', 'UPDATE'], ['delete', 'DELETE']]) {
  const called = await ow.feeds[verb]({ name: 'clock/ticks', trigger: 'tick', params: { every: 5 } })
  assert.deepEqual(called.response.result, { event, trigger: '/_/tick', every: 5 })
}
const fires = await ow.activations.list({ name: 'tick', docs: true })
assert.equal(fires.length, 1)
const { activationId } = JSON.parse(fires[0].logs[0])
assert.deepEqual((await recordOf(activationId)).response.result, { from: 'feed' })
await refused(ow.feeds.create({ name: 'clock/missing', trigger: 'tick' }), 404)

// OpenWhisk answers so, too, where it runs without a gateway.
await refused(ow.routes.list(), 404)
await refused(ow.routes.create({ basepath: '/x', relpath: '/y', operation: 'GET', action: 'seen' }), 404)
