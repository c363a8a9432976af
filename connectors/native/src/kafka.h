/* The part of librdkafka's public interface that we use, resolved at run time.
 *
 * confluent-kafka's wheel carries librdkafka without its header, so the few declarations are here.
 * Everything in this file is public ABI, unchanged since librdkafka 1.0 (`produceva`: 1.5). */
#ifndef AIRSIDE_KAFKA_H
#define AIRSIDE_KAFKA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct rd_kafka_s rd_kafka_t;
typedef struct rd_kafka_conf_s rd_kafka_conf_t;
typedef struct rd_kafka_queue_s rd_kafka_queue_t;
typedef struct rd_kafka_topic_s rd_kafka_topic_t;
typedef struct rd_kafka_topic_conf_s rd_kafka_topic_conf_t;
typedef struct rd_kafka_headers_s rd_kafka_headers_t;
typedef struct rd_kafka_error_s rd_kafka_error_t;
typedef int rd_kafka_resp_err_t;

typedef struct {
    rd_kafka_resp_err_t err;
    rd_kafka_topic_t *rkt;
    int32_t partition;
    void *payload;
    size_t len;
    void *key;
    size_t key_len;
    int64_t offset;
    void *_private;
} rd_kafka_message_t;

typedef enum { RK_V_RKT = 2, RK_V_VALUE = 4, RK_V_KEY = 5, RK_V_MSGFLAGS = 7, RK_V_HEADERS = 10 } rd_kafka_vtype_t;

typedef struct {
    rd_kafka_vtype_t vtype;
    union {
        rd_kafka_topic_t *rkt;
        int i;
        struct {
            void *ptr;
            size_t size;
        } mem;
        rd_kafka_headers_t *headers;
        char pad[64];
    } u;
} rd_kafka_vu_t;

enum {
    RK_OK = 0,
    RK_MSG_F_COPY = 2,
    RK_ERR_FAIL = -196,
    RK_ERR_QUEUE_FULL = -184,
    RK_TYPE_PRODUCER = 0,
    RK_VERSION_KNOWN = 0x02100000, /* see wire.c */
    RK_VERSION_MIN = 0x01090000 /* incremental assignment and forwarded queues, as we use them */
};

typedef rd_kafka_resp_err_t on_new_f(rd_kafka_t *, const rd_kafka_conf_t *, void *, char *, size_t);
typedef rd_kafka_resp_err_t on_destroy_f(rd_kafka_t *, void *);
typedef rd_kafka_resp_err_t on_ack_f(rd_kafka_t *, rd_kafka_message_t *, void *);

#define KAFKA_FUNCTIONS(F) \
    F(int, version, (void)) \
    F(int, type, (const rd_kafka_t *)) \
    F(rd_kafka_queue_t *, queue_new, (rd_kafka_t *)) \
    F(void, queue_destroy, (rd_kafka_queue_t *)) \
    F(rd_kafka_queue_t *, queue_get_partition, (rd_kafka_t *, const char *, int32_t)) \
    F(void, queue_forward, (rd_kafka_queue_t *, rd_kafka_queue_t *)) \
    F(ssize_t, consume_batch_queue, (rd_kafka_queue_t *, int, rd_kafka_message_t **, size_t)) \
    F(void, message_destroy, (rd_kafka_message_t *)) \
    F(rd_kafka_resp_err_t, message_headers, (const rd_kafka_message_t *, rd_kafka_headers_t **)) \
    F(int64_t, message_timestamp, (const rd_kafka_message_t *, int *)) \
    F(const char *, topic_name, (const rd_kafka_topic_t *)) \
    F(rd_kafka_topic_t *, topic_new, (rd_kafka_t *, const char *, rd_kafka_topic_conf_t *)) \
    F(void, topic_destroy, (rd_kafka_topic_t *)) \
    F(rd_kafka_headers_t *, headers_new, (size_t)) \
    F(void, headers_destroy, (rd_kafka_headers_t *)) \
    F(rd_kafka_resp_err_t, header_add, (rd_kafka_headers_t *, const char *, ssize_t, const void *, ssize_t)) \
    F(rd_kafka_resp_err_t, header_get_all, \
      (const rd_kafka_headers_t *, size_t, const char **, const void **, size_t *)) \
    F(rd_kafka_error_t *, produceva, (rd_kafka_t *, const rd_kafka_vu_t *, size_t)) \
    F(rd_kafka_resp_err_t, error_code, (const rd_kafka_error_t *)) \
    F(void, error_destroy, (rd_kafka_error_t *)) \
    F(rd_kafka_resp_err_t, conf_interceptor_add_on_new, (rd_kafka_conf_t *, const char *, on_new_f *, void *)) \
    F(rd_kafka_resp_err_t, interceptor_add_on_destroy, (rd_kafka_t *, const char *, on_destroy_f *, void *)) \
    F(rd_kafka_resp_err_t, interceptor_add_on_acknowledgement, (rd_kafka_t *, const char *, on_ack_f *, void *))

typedef struct {
#define KAFKA_FIELD(result, name, arguments) result(*name) arguments;
    KAFKA_FUNCTIONS(KAFKA_FIELD)
#undef KAFKA_FIELD
} Kafka;

/* Filled by `bind`; all zero until then. */
extern Kafka kafka;

/* Resolve every function from a library that is loaded already, or from what it depends on.
 * NULL on success, else the name of what is missing. */
const char *kafka_bind(const char *path);
/* Whether this librdkafka's messages may be looked at beyond their public part, with care. */
bool kafka_is_known(void);

/* One client (consumer or producer) of confluent-kafka, as librdkafka hands it to an interceptor.
 * It is counted: one reference is the client's, the other that of the Python object. */
typedef struct Link Link;

Link *link_take_newest(void); /* the client that this thread made last; NULL when there is none */
void link_release(Link *link);
rd_kafka_t *link_lock(Link *link); /* NULL once the client is gone; then there is nothing to unlock */
void link_unlock(Link *link);
rd_kafka_queue_t *link_queue(Link *link); /* ours; while locked */
void link_close_queue(Link *link);         /* for good, with what is in it */
rd_kafka_topic_t *link_topic(Link *link, const char *name); /* borrowed; while locked */
/* Whether a message failed for good; why the first one did, and on which topic. */
bool link_failed(const Link *link, int *error, const char **topic);

#endif
