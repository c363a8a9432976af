/* Headers are read where they were fetched.
 *
 * librdkafka offers a message's headers as a list, with a piece of memory for each header; making
 * and freeing these was a quarter of job A (0.5 of 2.0 us a message). The bytes themselves lie behind
 * the value, and the message says where, just past its public part. That is no promise of librdkafka, so nothing
 * is taken from there unless the pointer is the one that the public fields tell and the headers
 * end where their size says. The first messages of a process are read both ways; if their headers
 * differ, the list is asked for, for good. It also is asked for where ours cannot be read.
 *
 * The form of records: https://kafka.apache.org/documentation/#recordheader */
#include "wire.h"

#include <stdatomic.h>
#include <string.h>

#define COUNT_MAX 100000 /* librdkafka's own bound */
#define COMPARED 64

/* A message inside librdkafka, from 2.16.0 on. */
typedef struct {
    rd_kafka_message_t message;
    void *link[2];
    int flags, time_kind;
    int64_t time_ms;
    void *headers;
    int status;
    int32_t broker;
    int32_t wire_size;
    const char *wire;
} Inside;

static atomic_int to_compare = COMPARED;
static atomic_bool differs;

static bool number(Wire *wire, int64_t *found) {
    uint64_t bits = 0;
    for (int shift = 0; shift < 64 && wire->at < wire->end; shift += 7) {
        uint64_t byte = (unsigned char)*wire->at++;
        bits |= (byte & 127) << shift;
        if (byte < 128) {
            *found = (int64_t)(bits >> 1) ^ -(int64_t)(bits & 1);
            return true;
        }
    }
    return false;
}

static bool take(Wire *wire, int64_t size, const char **at) {
    if (size < 0 || size > wire->end - wire->at)
        return false;
    *at = wire->at;
    wire->at += size;
    return true;
}

bool wire_begin(Wire *wire, const char *at, size_t size) {
    *wire = (Wire){at, at + size, 0};
    return number(wire, &wire->left) && wire->left > 0 && wire->left <= COUNT_MAX;
}

bool wire_next(Wire *wire, WireHeader *header) {
    int64_t size;
    if (!number(wire, &size) || !take(wire, size, &header->name))
        return false;
    header->name_size = (size_t)size;
    if (!number(wire, &size))
        return false;
    header->value = NULL;
    header->value_size = 0;
    if (size != -1) {
        if (!take(wire, size, &header->value))
            return false;
        header->value_size = (size_t)size;
    }
    wire->left--;
    return true;
}

/* Whether librdkafka tells the same of these headers, or refuses them as we do. */
static bool same(const rd_kafka_message_t *message, Wire wire) {
    rd_kafka_headers_t *list;
    WireHeader mine;
    const char *name;
    const void *value;
    size_t size, place = 0;
    if (kafka.message_headers(message, &list)) {
        while (wire.left)
            if (!wire_next(&wire, &mine))
                return true;
        return false;
    }
    for (; wire.left; place++)
        if (!wire_next(&wire, &mine))
            return true; /* it will be asked for them */
        else if (kafka.header_get_all(list, place, &name, &value, &size) ||
            strlen(name) != strnlen(mine.name, mine.name_size) || memcmp(name, mine.name, strlen(name)) ||
            !value != !mine.value || (value && (size != mine.value_size || memcmp(value, mine.value, size))))
            return false;
    return kafka.header_get_all(list, place, &name, &value, &size) != RK_OK;
}

bool wire_of(const rd_kafka_message_t *message, Wire *wire) {
    if (atomic_load_explicit(&differs, memory_order_relaxed) || !kafka_is_known())
        return false;
    /* Behind the value, or behind the key and the one byte that says that the value is null or empty. */
    const char *behind = message->payload && message->len ? (const char *)message->payload + message->len
                         : message->key && message->key_len ? (const char *)message->key + message->key_len + 1
                                                            : NULL;
    const Inside *inside = (const Inside *)message;
    if (!behind || inside->wire != behind || inside->wire_size <= 0 || inside->headers || /* set by another plugin */
        !wire_begin(wire, behind, (size_t)inside->wire_size))
        return false;
    if (atomic_load_explicit(&to_compare, memory_order_relaxed) > 0) {
        if (!same(message, *wire)) {
            atomic_store(&differs, true);
            return false;
        }
        atomic_fetch_sub(&to_compare, 1);
    }
    return true;
}
