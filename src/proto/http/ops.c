/* The server itself: hello, health, readiness, metrics, the OpenAPI document. */
#include "proto/http/http_int.h"
#include "proto/http/openapi.h"

void route_hello(struct rq *rq)
{
    static const char text[] =
        "{\"name\":\"weir\",\"version\":\"" WEIR_VERSION "\","
        "\"links\":{\"events\":\"/events\",\"stream\":\"/events/stream\",\"topics\":\"/topics\","
        "\"openapi\":\"/openapi.yaml\",\"metrics\":\"/metrics\",\"health\":\"/healthz\","
        "\"ready\":\"/readyz\"}}\n";

    rq_reply(rq, 200, MEDIA_JSON, slice_of(text, sizeof text - 1));
}

void route_health(struct rq *rq)
{
    rq_reply(rq, 200, MEDIA_JSON, SLICE_LIT("{\"status\":\"ok\"}\n"));
}

void route_ready(struct rq *rq)
{
    struct errinfo why = {0};
    enum err e = broker_writable(rq->ctx->proto->conf.broker, &why);

    if (e)
        rq_fail(rq, e, &why);
    else
        rq_reply(rq, 200, MEDIA_JSON, SLICE_LIT("{\"status\":\"ready\"}\n"));
}

void route_metrics(struct rq *rq)
{
    struct http_proto *p = rq->ctx->proto;
    enum err e = broker_metrics(p->conf.broker, &rq->out);

    e = e ? e : http_metrics_write(p, &rq->out);
    if (!e && p->conf.metrics)
        p->conf.metrics(p->conf.metrics_arg, &rq->out);
    if (e)
        rq_fail(rq, e, NULL);
    else
        rq_reply_out(rq, 200, "text/plain; version=0.0.4; charset=utf-8");
}

void route_openapi(struct rq *rq)
{
    rq_reply(rq, 200, "application/yaml", openapi_document());
}
