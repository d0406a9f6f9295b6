/* nats.c against weir: core messages, streams, key-value buckets. Arguments: the address, a token ("" for none). */
#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *url, *token;

static void check(natsStatus s, const char *what)
{
    if (s == NATS_OK)
        return;
    printf("fail %s: %s\n", what, natsStatus_GetText(s));
    exit(1);
}

static natsConnection *dial(void)
{
    natsOptions *o = NULL;
    natsConnection *c = NULL;

    check(natsOptions_Create(&o), "options");
    check(natsOptions_SetURL(o, url), "url");
    if (*token)
        check(natsOptions_SetToken(o, token), "token");
    check(natsConnection_Connect(&c, o), "connect");
    natsOptions_Destroy(o);
    return c;
}

static void pubsub(void)
{
    natsConnection *a = dial(), *b = dial();
    natsSubscription *s = NULL;
    natsMsg *m = NULL;
    char text[32];
    int i;

    check(natsConnection_SubscribeSync(&s, a, "c.*"), "pubsub");
    check(natsConnection_Flush(a), "pubsub");
    for (i = 0; i < 5000; i++) {
        snprintf(text, sizeof text, "%d", i);
        check(natsConnection_PublishString(b, "c.x", text), "pubsub");
    }
    for (i = 0; i < 5000; i++) {
        check(natsSubscription_NextMsg(&m, s, 20000), "pubsub");
        if (atoi(natsMsg_GetData(m)) != i) {
            printf("fail pubsub: %s instead of %d\n", natsMsg_GetData(m), i);
            exit(1);
        }
        natsMsg_Destroy(m);
    }
    natsSubscription_Destroy(s);
    natsConnection_Destroy(a);
    natsConnection_Destroy(b);
    printf("ok pubsub\n");
}

static void answer(natsConnection *c, natsSubscription *s, natsMsg *m, void *arg)
{
    (void)s;
    (void)arg;
    natsConnection_PublishString(c, natsMsg_GetReply(m), "yes");
    natsMsg_Destroy(m);
}

static void requests(void)
{
    natsConnection *a = dial(), *b = dial();
    natsSubscription *s = NULL;
    natsMsg *m = NULL, *q = NULL;
    const char *v = NULL;
    int i;

    check(natsConnection_QueueSubscribe(&s, a, "svc", "q", answer, NULL), "requests");
    check(natsConnection_Flush(a), "requests");
    for (i = 0; i < 500; i++) {
        check(natsConnection_RequestString(&m, b, "svc", "?", 20000), "requests");
        if (strcmp(natsMsg_GetData(m), "yes") != 0)
            check(NATS_ERR, "requests");
        natsMsg_Destroy(m);
    }
    check(natsConnection_RequestString(&m, b, "nobody", "?", 20000) == NATS_NO_RESPONDERS
              ? NATS_OK
              : NATS_ERR,
          "requests");
    natsSubscription_Destroy(s);
    s = NULL;
    check(natsConnection_SubscribeSync(&s, a, "h"), "headers");
    check(natsConnection_Flush(a), "headers");
    check(natsMsg_Create(&q, "h", NULL, "x", 1), "headers");
    check(natsMsgHeader_Set(q, "Key", "value"), "headers");
    check(natsConnection_PublishMsg(b, q), "headers");
    check(natsSubscription_NextMsg(&m, s, 20000), "headers");
    check(natsMsgHeader_Get(m, "Key", &v), "headers");
    if (strcmp(v, "value") != 0)
        check(NATS_ERR, "headers");
    natsMsg_Destroy(m);
    natsMsg_Destroy(q);
    natsSubscription_Destroy(s);
    natsConnection_Destroy(a);
    natsConnection_Destroy(b);
    printf("ok requests\n");
}

/* Publishes without waiting, then takes all in batches, acknowledged; then by a subscription that is
 * pushed to, in order. */
static void streams(void)
{
    natsConnection *c = dial();
    jsCtx *js = NULL;
    jsStreamConfig conf;
    jsStreamInfo *info = NULL;
    const char *subjects[] = {"s.>"};
    natsSubscription *s = NULL;
    jsSubOptions opts;
    natsMsgList list;
    natsMsg *m = NULL;
    char text[32];
    int i = 0, k;

    check(natsConnection_JetStream(&js, c, NULL), "streams");
    check(jsStreamConfig_Init(&conf), "streams");
    conf.Name = "S";
    conf.Subjects = subjects;
    conf.SubjectsLen = 1;
    check(js_AddStream(&info, js, &conf, NULL, NULL), "streams: add");
    jsStreamInfo_Destroy(info);
    info = NULL;
    for (i = 0; i < 2000; i++) {
        snprintf(text, sizeof text, "%d", i);
        check(js_PublishAsync(js, "s.x", text, (int)strlen(text), NULL), "streams: publish");
    }
    check(js_PublishAsyncComplete(js, NULL), "streams: publish");
    check(js_GetStreamInfo(&info, js, "S", NULL, NULL), "streams: info");
    if (info->State.Msgs != 2000 || info->State.LastSeq != 2000)
        check(NATS_ERR, "streams: count");
    jsStreamInfo_Destroy(info);
    check(js_PullSubscribe(&s, js, "s.>", "puller", NULL, NULL, NULL), "streams: pull");
    for (i = 0; i < 2000; natsMsgList_Destroy(&list)) {
        check(natsSubscription_Fetch(&list, s, 300, 20000, NULL), "streams: fetch");
        for (k = 0; k < list.Count; k++, i++) {
            if (atoi(natsMsg_GetData(list.Msgs[k])) != i)
                check(NATS_ERR, "streams: order");
            check(natsMsg_AckSync(list.Msgs[k], NULL, NULL), "streams: ack");
        }
    }
    natsSubscription_Destroy(s);
    s = NULL;
    check(jsSubOptions_Init(&opts), "streams");
    opts.Ordered = true;
    check(js_SubscribeSync(&s, js, "s.x", NULL, &opts, NULL), "streams: ordered");
    for (i = 0; i < 2000; i++) {
        check(natsSubscription_NextMsg(&m, s, 20000), "streams: ordered");
        if (atoi(natsMsg_GetData(m)) != i)
            check(NATS_ERR, "streams: ordered");
        natsMsg_Destroy(m);
    }
    natsSubscription_Destroy(s);
    jsCtx_Destroy(js);
    natsConnection_Destroy(c);
    printf("ok streams\n");
}

static void buckets(void)
{
    natsConnection *c = dial();
    jsCtx *js = NULL;
    kvConfig conf;
    kvStore *kv = NULL;
    kvWatcher *w = NULL;
    kvEntry *e = NULL;
    uint64_t rev = 0, rev2 = 0;

    check(natsConnection_JetStream(&js, c, NULL), "buckets");
    check(kvConfig_Init(&conf), "buckets");
    conf.Bucket = "b";
    conf.History = 5;
    check(js_CreateKeyValue(&kv, js, &conf), "buckets: create");
    check(kvStore_CreateString(&rev, kv, "k", "one"), "buckets: create key");
    if (kvStore_CreateString(&rev2, kv, "k", "again") == NATS_OK)
        check(NATS_ERR, "buckets: created twice");
    check(kvStore_UpdateString(&rev2, kv, "k", "two", rev), "buckets: update");
    if (kvStore_UpdateString(&rev, kv, "k", "three", rev) == NATS_OK)
        check(NATS_ERR, "buckets: updated at an old revision");
    check(kvStore_Get(&e, kv, "k"), "buckets: get");
    if (strcmp(kvEntry_ValueString(e), "two") != 0 || kvEntry_Revision(e) != rev2)
        check(NATS_ERR, "buckets: get");
    kvEntry_Destroy(e);
    check(kvStore_WatchAll(&w, kv, NULL), "buckets: watch");
    check(kvWatcher_Next(&e, w, 20000), "buckets: watch");
    if (!e || strcmp(kvEntry_ValueString(e), "two") != 0)
        check(NATS_ERR, "buckets: watch");
    kvEntry_Destroy(e);
    check(kvWatcher_Next(&e, w, 20000), "buckets: watch"); /* the mark behind what there was */
    if (e)
        check(NATS_ERR, "buckets: watch");
    check(kvStore_Delete(kv, "k"), "buckets: delete");
    check(kvWatcher_Next(&e, w, 20000), "buckets: watch");
    if (!e || kvEntry_Operation(e) != kvOp_Delete)
        check(NATS_ERR, "buckets: watch");
    kvEntry_Destroy(e);
    kvWatcher_Destroy(w);
    if (kvStore_Get(&e, kv, "k") != NATS_NOT_FOUND)
        check(NATS_ERR, "buckets: deleted");
    kvStore_Destroy(kv);
    jsCtx_Destroy(js);
    natsConnection_Destroy(c);
    printf("ok buckets\n");
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    url = argv[1];
    token = argv[2];
    setvbuf(stdout, NULL, _IOLBF, 0);
    pubsub();
    requests();
    streams();
    buckets();
    nats_Close();
    return 0;
}
