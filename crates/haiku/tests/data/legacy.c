typedef int status_t; typedef int int32; typedef unsigned int uint32;
extern void dprintf(const char* format, ...);
extern int strcmp(const char* one, const char* other);
int32 api_version = 2;
static const char* names[] = { "misc/sample", 0 };
struct device_hooks { void* hooks[8]; };
static status_t opened(const char* name, uint32 flags, void** cookie) { dprintf("open %s\n", name); return 0; }
static struct device_hooks hooks = { { (void*)opened } };
status_t init_hardware(void) { return 0; }
status_t init_driver(void) { dprintf("sample: init\n"); return 0; }
void uninit_driver(void) {}
const char** publish_devices(void) { return names; }
struct device_hooks* find_device(const char* name) { return strcmp(name, names[0]) == 0 ? &hooks : 0; }
