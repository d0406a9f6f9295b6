/* nats.c against weir: core messages. Arguments: the address, a token ("" for none). */
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

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    url = argv[1];
    token = argv[2];
    setvbuf(stdout, NULL, _IOLBF, 0);
    pubsub();
    requests();
    nats_Close();
    return 0;
}
