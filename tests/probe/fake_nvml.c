/* A stand-in for libnvidia-ml.so.1 with two cards; compiled by test_nvml.py.
   Structs and error codes as in NVIDIA's nvml.h; `fake_*` set what goes wrong and tell what happened. */
#include <string.h>
#include <strings.h>
#include <unistd.h>

typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } pci_t;
typedef struct { unsigned gpu, memory; } utilization_t;
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2_t;
struct card { const char *uuid, *name, *bus_id; int is_small; };

static struct card cards[2] = {
    {"GPU-aaaaaaaa-0000-0000-0000-000000000001", "NVIDIA GeForce RTX 3090", "00000000:0A:00.0", 0},
    {"GPU-bbbbbbbb-0000-0000-0000-000000000002", "NVIDIA T400", "00000000:0B:00.0", 1},
};
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } process_t;

static int opened, init_code, lost_card = -1, lost_code = 15, has_memory_v2 = 1, asked[2], processes = 2;
static volatile int hangs;

void fake_set(int code, int lost, int memory_v2) { init_code = code; lost_card = lost; lost_code = 15; has_memory_v2 = memory_v2; }
void fake_fails(int card, int code) { lost_card = card; lost_code = code; }
void fake_hangs(int yes) { hangs = yes; }
void fake_processes(int count) { processes = count; }
int fake_opened(void) { return opened; }
int fake_asked(int card) { return asked[card]; }
static int at(void *handle) { return (int)((struct card *)handle - cards); }

int nvmlInit_v2(void) { if (init_code) return init_code; opened++; return 0; }
int nvmlShutdown(void) { opened--; return 0; }
const char *nvmlErrorString(int code) {
    return code == 18 ? "Driver/library version mismatch" : code == 15 ? "GPU is lost" : code == 6 ? "Not Found" : code == 999 ? "Unknown Error" : "Not Supported";
}
int nvmlSystemGetDriverVersion(char *text, unsigned size) { strncpy(text, "570.195.03", size); return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    asked[index]++;
    *handle = &cards[index];
    return (int)index == lost_card ? lost_code : 0;
}
int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, void **handle) {
    for (unsigned i = 0; i < 2; i++)
        if (!strcasecmp(bus_id, cards[i].bus_id + 4)) return nvmlDeviceGetHandleByIndex_v2(i, handle);
    return 6;
}
int nvmlDeviceGetUUID(struct card *card, char *text, unsigned size) { strncpy(text, card->uuid, size); return 0; }
int nvmlDeviceGetName(struct card *card, char *text, unsigned size) { strncpy(text, card->name, size); return 0; }
int nvmlDeviceGetPciInfo_v3(struct card *card, pci_t *pci) {
    memset(pci, 0, sizeof *pci);
    pci->bus = 10 + at(card);
    strcpy(pci->bus_id, card->bus_id);
    return 0;
}
int nvmlDeviceGetUtilizationRates(struct card *card, utilization_t *rates) {
    while (hangs) usleep(10000);
    rates->gpu = card->is_small ? 0 : 97;
    rates->memory = 55;
    return 0;
}
int nvmlDeviceGetMemoryInfo(struct card *card, memory_t *memory) {
    memory->total = 25769803776ULL; memory->free = 20000000000ULL; memory->used = 5769803776ULL;
    return 0;
}
int nvmlDeviceGetMemoryInfo_v2(struct card *card, memory_v2_t *memory) {
    if (!has_memory_v2) return 13;
    if (memory->version != (sizeof(memory_v2_t) | 2u << 24)) return 25;
    memory->total = 25769803776ULL; memory->reserved = 400000000ULL;
    memory->free = 20000000000ULL; memory->used = 5369803776ULL;
    return 0;
}
int nvmlDeviceGetTemperature(struct card *card, int sensor, unsigned *celsius) { *celsius = 71; return sensor ? 2 : 0; }
int nvmlDeviceGetPowerUsage(struct card *card, unsigned *milliwatts) { *milliwatts = 214553; return card->is_small ? 3 : 0; }
int nvmlDeviceGetEnforcedPowerLimit(struct card *card, unsigned *milliwatts) { *milliwatts = 350000; return card->is_small ? 3 : 0; }
int nvmlDeviceGetFanSpeed(struct card *card, unsigned *percent) { *percent = 0; return card->is_small ? 3 : 0; }
int nvmlDeviceGetClockInfo(struct card *card, int kind, unsigned *megahertz) {
    *megahertz = kind == 1 ? 1695 : kind == 2 ? 9751 : 0;
    return 0;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(struct card *card, unsigned long long *bits) {
    *bits = card->is_small ? 1 : 0x44;
    return 0;
}
static int running(process_t *list, unsigned *count, int wanted) {
    if (*count < (unsigned)wanted) { *count = wanted; return 7; }
    for (int i = 0; i < wanted; i++) {
        list[i].pid = 2000 + i;
        list[i].used = i % 2 ? ~0ULL : (1000 - i) * 1048576ULL;
        list[i].gpu_instance = list[i].compute_instance = ~0u;
    }
    *count = wanted;
    return 0;
}
int nvmlDeviceGetComputeRunningProcesses_v3(struct card *card, unsigned *count, process_t *list) {
    return running(list, count, card->is_small ? 0 : processes);
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(struct card *card, unsigned *count, process_t *list) {
    return card->is_small ? 3 : running(list, count, 1); /* one that computes, too */
}
