/* How we get at confluent-kafka's own clients, by librdkafka's interceptors alone.
 *
 * A client that is configured with `plugin.library.paths` naming this library calls `conf_init`,
 * and so tells us its handle when it is made and when it goes away. Everything but reading and
 * producing in batches stays with the Python client: assignments, callbacks, logs, credentials. */
#define _GNU_SOURCE
#include "kafka.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define TOPICS_MAX 64

Kafka kafka;
static bool known;

struct Link {
    pthread_mutex_t mutex;
    atomic_int references;
    rd_kafka_t *client;
    rd_kafka_queue_t *queue;
    int queue_closed;
    rd_kafka_topic_t *topics[TOPICS_MAX];
    int topic_count;
    atomic_bool failed;
    atomic_int first_error;
    char first_topic[256]; /* written before `failed` is, by one thread */
};

static __thread Link *newest;

const char *kafka_bind(const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
    if (!library)
        return "the library itself";
#define KAFKA_BIND(result, name, arguments) \
    if (!(*(void **)&kafka.name = dlsym(library, "rd_kafka_" #name))) \
        return "rd_kafka_" #name;
    KAFKA_FUNCTIONS(KAFKA_BIND)
#undef KAFKA_BIND
    known = kafka.version() >= RK_VERSION_KNOWN;
    return kafka.version() < RK_VERSION_MIN ? "a new enough librdkafka" : NULL;
}

bool kafka_is_known(void) { return known; }

void link_release(Link *link) {
    if (link && atomic_fetch_sub(&link->references, 1) == 1) {
        pthread_mutex_destroy(&link->mutex);
        free(link);
    }
}

Link *link_take_newest(void) {
    Link *link = newest;
    newest = NULL;
    return link;
}

rd_kafka_t *link_lock(Link *link) {
    pthread_mutex_lock(&link->mutex);
    if (!link->client)
        pthread_mutex_unlock(&link->mutex);
    return link->client;
}

void link_unlock(Link *link) { pthread_mutex_unlock(&link->mutex); }

rd_kafka_queue_t *link_queue(Link *link) {
    if (!link->queue && !link->queue_closed)
        link->queue = kafka.queue_new(link->client);
    return link->queue;
}

void link_close_queue(Link *link) {
    if (link->queue)
        kafka.queue_destroy(link->queue);
    link->queue = NULL;
    link->queue_closed = 1;
}

rd_kafka_topic_t *link_topic(Link *link, const char *name) {
    for (int i = 0; i < link->topic_count; i++)
        if (!strcmp(name, kafka.topic_name(link->topics[i])))
            return link->topics[i];
    if (link->topic_count == TOPICS_MAX) /* more than the policy names: forget, and begin again */
        while (link->topic_count)
            kafka.topic_destroy(link->topics[--link->topic_count]);
    rd_kafka_topic_t *topic = kafka.topic_new(link->client, name, NULL);
    if (topic)
        link->topics[link->topic_count++] = topic;
    return topic;
}

bool link_failed(const Link *link, int *error, const char **topic) {
    bool failed = atomic_load(&link->failed);
    *error = failed ? atomic_load(&link->first_error) : 0;
    *topic = failed ? link->first_topic : "";
    return failed;
}

/* What belongs to the client has to be given back before the client is torn down. */
static rd_kafka_resp_err_t on_destroy(rd_kafka_t *client, void *opaque) {
    Link *link = opaque;
    (void)client;
    pthread_mutex_lock(&link->mutex);
    link_close_queue(link);
    while (link->topic_count)
        kafka.topic_destroy(link->topics[--link->topic_count]);
    link->client = NULL;
    pthread_mutex_unlock(&link->mutex);
    link_release(link);
    return RK_OK;
}

/* Called for every message that was delivered or given up, by threads of the client, too. */
static rd_kafka_resp_err_t on_ack(rd_kafka_t *client, rd_kafka_message_t *message, void *opaque) {
    Link *link = opaque;
    (void)client;
    if (message->err) {
        int none = 0;
        if (atomic_compare_exchange_strong(&link->first_error, &none, message->err)) {
            if (message->rkt)
                strncpy(link->first_topic, kafka.topic_name(message->rkt), sizeof link->first_topic - 1);
            atomic_store(&link->failed, true);
        }
    }
    return RK_OK;
}

static rd_kafka_resp_err_t on_new(rd_kafka_t *client, const rd_kafka_conf_t *conf, void *opaque, char *text,
                                  size_t size) {
    (void)conf, (void)opaque, (void)text, (void)size;
    Link *link = calloc(1, sizeof *link);
    if (!link || pthread_mutex_init(&link->mutex, NULL)) {
        free(link);
        return RK_ERR_FAIL;
    }
    link->client = client;
    atomic_init(&link->references, 1);
    if (kafka.interceptor_add_on_destroy(client, "airside", on_destroy, link) ||
        (kafka.type(client) == RK_TYPE_PRODUCER &&
         kafka.interceptor_add_on_acknowledgement(client, "airside", on_ack, link)))
        return RK_ERR_FAIL; /* not freed here, since `on_destroy` may hold it already */
    atomic_fetch_add(&link->references, 1);
    link_release(newest); /* of a client that nobody asked for */
    newest = link;
    return RK_OK;
}

/* The name that librdkafka looks for in a plugin. */
__attribute__((visibility("default"))) rd_kafka_resp_err_t conf_init(rd_kafka_conf_t *conf, void **opaque, char *text,
                                                                     size_t size) {
    (void)opaque, (void)text, (void)size;
    if (!kafka.version)
        return RK_ERR_FAIL; /* loaded by somebody else than our module */
    return kafka.conf_interceptor_add_on_new(conf, "airside", on_new, NULL);
}
