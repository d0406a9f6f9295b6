// kafkajs with users: `node security.mjs BOOTSTRAP PREFIX`. The server has the users admin (super), ann and ben, whose
// passwords are pw-NAME, rules on, and the key of WEIR_JWT_SECRET for tokens.
import {createHmac} from 'node:crypto';
import {check, equal, kafkajs, run, until} from './steps.mjs';

const [bootstrap, prefix] = process.argv.slice(2);
const {AclOperationTypes: Op, AclPermissionTypes: Permit, AclResourceTypes: Res, ConfigResourceTypes, Kafka, logLevel,
       ResourcePatternTypes: Pattern} = kafkajs();
const open = [];
const login = (mechanism, username, password) => ({mechanism, username, password: password ?? `pw-${username}`});

function client(sasl, options = {}) {
    return new Kafka({clientId: 'security', brokers: [bootstrap], logLevel: logLevel.NOTHING, sasl, retry: {retries: 1}, ...options});
}

async function connected(what) {
    await what.connect();
    open.push(what);
    return what;
}

async function refused(what, doing, text) {
    try {
        await doing();
    } catch (e) {
        check(e.message.includes(text), `${what} is refused because of ${e.message}`);
        return;
    }
    throw new Error(`${what} is not refused`);
}

const b64 = o => Buffer.from(JSON.stringify(o)).toString('base64url');
function token(claims, secret = process.env.WEIR_JWT_SECRET) {
    const text = `${b64({alg: 'HS256', typ: 'JWT'})}.${b64(claims)}`;
    return {value: `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`};
}
const soon = () => Math.floor(Date.now() / 1000) + 60;
const bearer = t => ({mechanism: 'oauthbearer', oauthBearerProvider: async () => t});

const root = () => connected(client(login('scram-sha-256', 'admin')).admin());
const rule = (resourceType, resourceName, principal, operation, more) => ({
    resourceType, resourceName, resourcePatternType: Pattern.LITERAL, principal, host: '*', operation,
    permissionType: Permit.ALLOW, ...more,
});

const steps = {
    async mechanisms() {
        for (const m of ['plain', 'scram-sha-256', 'scram-sha-512'])
            check(Array.isArray(await (await connected(client(login(m, 'ann')).admin())).listTopics()), m);
        await connected(client(bearer(token({sub: 'ann', exp: soon()}))).admin());
    },

    async passwords() {
        for (const m of ['plain', 'scram-sha-256', 'scram-sha-512']) {
            await refused(`${m} with a wrong password`, () => client(login(m, 'ann', 'pw-ben')).admin().connect(), 'invalid credentials');
            await refused(`${m} without a user`, () => client(login(m, 'nobody')).admin().connect(), 'invalid credentials');
        }
        // The mechanism says what is wrong with a token as data, which this client does not look at: it is cut off when it goes on.
        const list = async sasl => (await connected(client(sasl).admin())).listTopics();
        await refused('no login', () => list(undefined), '');
        await refused('an old token', () => list(bearer(token({sub: 'ann', exp: soon() - 1000}))), '');
        await refused('a forged token', () => list(bearer(token({sub: 'ann', exp: soon()}, 'f'.repeat(40)))), '');
    },

    async rules() {
        const admin = await root(), topic = `${prefix}-rules`, group = `${prefix}-rules`;
        await admin.createTopics({topics: [{topic, numPartitions: 1}], waitForLeaders: true});
        const producer = await connected(client(login('plain', 'ann')).producer());
        const send = () => producer.send({topic, messages: [{value: 'v'}]});
        await refused('writing', send, 'uthoriz');
        await admin.createAcls({acl: [rule(Res.TOPIC, topic, 'User:ann', Op.WRITE)]});
        await until('the rule', () => send().then(() => true, () => false));
        const consumer = await connected(client(login('plain', 'ben')).consumer({groupId: group}));
        await admin.createAcls({acl: [
            rule(Res.TOPIC, prefix, 'User:*', Op.READ, {resourcePatternType: Pattern.PREFIXED}),
            rule(Res.GROUP, group, 'User:ben', Op.READ)]});
        let got = 0;
        await consumer.subscribe({topic, fromBeginning: true});
        await consumer.run({eachMessage: async () => { got++; }});
        await until('the record', () => got > 0);
        await admin.createAcls({acl: [rule(Res.TOPIC, topic, 'User:ann', Op.ALL, {permissionType: Permit.DENY})]});
        await refused('writing what is denied', send, 'uthoriz');
    },

    async rules_listed() {
        const admin = await root(), any = {resourceType: Res.ANY, resourcePatternType: Pattern.ANY, operation: Op.ANY, permissionType: Permit.ANY};
        await admin.createAcls({acl: [rule(Res.TOPIC, `${prefix}-one`, 'User:eve', Op.WRITE), rule(Res.TOPIC, `${prefix}-one`, 'User:eve', Op.READ)]});
        const mine = {...any, resourceName: `${prefix}-one`, principal: 'User:eve', host: '*'};
        const {resources} = await admin.describeAcls(mine);
        equal(resources.map(r => [r.resourceName, r.acls.map(a => a.operation).sort()]), [[`${prefix}-one`, [Op.READ, Op.WRITE].sort()]], 'rules');
        const {filterResponses: [one]} = await admin.deleteAcls({filters: [mine]});
        equal(one.matchingAcls.length, 2, 'deleted');
        equal((await admin.describeAcls(mine)).resources.length, 0, 'left');
        const ann = await connected(client(login('plain', 'ann')).admin());
        await refused('making rules', () => ann.createAcls({acl: [rule(Res.TOPIC, 't', 'User:ann', Op.ALL)]}), 'uthoriz');
    },

    async configs() {
        const admin = await root(), topic = `${prefix}-configs`;
        await admin.createTopics({topics: [{topic, numPartitions: 1, configEntries: [{name: 'retention.ms', value: '5000'}]}]});
        const value = async name => {
            const {resources: [r]} = await admin.describeConfigs({includeSynonyms: true, resources: [{type: ConfigResourceTypes.TOPIC, name: topic}]});
            return r.configEntries.find(c => c.configName === name).configValue;
        };
        equal(await value('retention.ms'), '5000', 'retention.ms');
        await admin.alterConfigs({validateOnly: false, resources: [{type: ConfigResourceTypes.TOPIC, name: topic,
                                                                    configEntries: [{name: 'cleanup.policy', value: 'compact'}]}]});
        equal(await value('cleanup.policy'), 'compact', 'cleanup.policy');
        equal(await value('retention.ms'), '604800000', 'retention.ms');
        await refused('a wrong value', () => admin.alterConfigs({validateOnly: false, resources: [
            {type: ConfigResourceTypes.TOPIC, name: topic, configEntries: [{name: 'retention.ms', value: 'long'}]}]}), 'onfiguration');
        const broker = await admin.describeConfigs({resources: [{type: ConfigResourceTypes.BROKER, name: '1'}]});
        check(broker.resources[0].configEntries.some(c => c.configName === 'log.dirs'), 'the broker is shown');
        await admin.createPartitions({topicPartitions: [{topic, count: 3}]});
        equal((await admin.fetchTopicMetadata({topics: [topic]})).topics[0].partitions.length, 3, 'partitions');
        await admin.deleteTopics({topics: [topic]});
        check(!(await admin.listTopics()).includes(topic), 'the topic is deleted');
    },
};

await run(steps, () => Promise.allSettled(open.map(c => c.disconnect())));
