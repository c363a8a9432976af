/* The headers of one record as Kafka sends them: a count, then names and values with their sizes. */
#ifndef AIRSIDE_WIRE_H
#define AIRSIDE_WIRE_H

#include "kafka.h"

typedef struct {
    const char *at, *end;
    int64_t left; /* headers that are still to come */
} Wire;

typedef struct {
    const char *name, *value; /* value NULL: null */
    size_t name_size, value_size;
} WireHeader;

/* Begin to read; false where there are none, and where librdkafka would refuse them. */
bool wire_begin(Wire *wire, const char *at, size_t size);
/* The next one, while there is one left; false: cut, or a size that is none or of over ten bytes. */
bool wire_next(Wire *wire, WireHeader *header);

/* Where a consumed message's headers lie in what was fetched; false: ask librdkafka for them. */
bool wire_of(const rd_kafka_message_t *message, Wire *wire);

#endif
