// kafkajs with client certificates: `node certificates.mjs BOOTSTRAP PREFIX`. The folder WEIR_CERTS has ca.pem, and NAME.pem
// and NAME.key of admin (a super user), ann and ben. Rules are on.
import {readFileSync} from 'node:fs';
import {check, equal, kafkajs, run} from './steps.mjs';

const [bootstrap, prefix] = process.argv.slice(2);
const {AclOperationTypes: Op, AclPermissionTypes: Permit, AclResourceTypes: Res, Kafka, logLevel,
       ResourcePatternTypes: Pattern} = kafkajs();
const pem = name => readFileSync(`${process.env.WEIR_CERTS}/${name}`);
const client = name => new Kafka({
    clientId: 'certificates', brokers: [bootstrap], logLevel: logLevel.NOTHING, retry: {retries: 1},
    ssl: {ca: [pem('ca.pem')], cert: pem(`${name}.pem`), key: pem(`${name}.key`)},
});
const topic = `${prefix}-certificates`;
const open = [];

async function connected(what) {
    await what.connect();
    open.push(what);
    return what;
}

const writes = async name => (await connected(client(name).producer())).send({topic, messages: [{value: `of ${name}`}]})
    .then(() => true, e => (check(/authorized/.test(e.message), e.message), false));

const steps = {
    async rules() {
        const admin = await connected(client('admin').admin());
        await admin.createTopics({topics: [{topic}]});
        equal([await writes('ann'), await writes('ben')], [false, false], 'without a rule');
        await admin.createAcls({acl: [{
            resourceType: Res.TOPIC, resourceName: topic, resourcePatternType: Pattern.LITERAL, host: '*', operation: Op.WRITE,
            principal: 'User:CN=ann,OU=Tests,O=Weir\\, Inc.', permissionType: Permit.ALLOW,
        }]});
        equal([await writes('ann'), await writes('ben')], [true, false], 'with a rule');
        equal(Number((await admin.fetchTopicOffsets(topic))[0].high), 1, 'records');
    },
};

await run(steps, () => Promise.allSettled(open.map(o => o.disconnect())));
