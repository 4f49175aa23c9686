typedef int status_t; typedef int int32; typedef unsigned int uint32;
extern void dprintf(const char* format, ...);
struct module_info { const char* name; uint32 flags; status_t (*std_ops)(int32 op, ...); };
static status_t std_ops(int32 op, ...) { dprintf("op %d\n", op); return 0; }
static struct module_info device = { "drivers/misc/sample/device_v1", 0, std_ops };
static struct module_info driver = { "drivers/misc/sample/driver_v1", 0, std_ops };
struct module_info* modules[] = { &driver, &device, 0 };
