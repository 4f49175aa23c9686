/* What the templates need of Haiku's headers, declared by ourselves from its documentation
 * (https://api.haiku-os.org and the Be Book), so that they can be compiled without them. */
#ifndef DECLARATIONS_H
#define DECLARATIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef int32_t int32;
typedef uint8_t uint8;
typedef uint16_t uint16;
typedef uint32_t uint32;
typedef int32 status_t;
typedef int32 area_id;
typedef int64_t off_t;
typedef uint64_t phys_addr_t;
typedef uint32 type_code;

#define B_PRIx32 "x"
#define B_OK 0
#define B_ERROR (-1)
#define B_NO_MEMORY (-2)
#define B_BAD_VALUE (-3)
#define B_ENTRY_NOT_FOUND (-4)
#define B_NOT_ALLOWED (-5)
#define B_DEV_INVALID_IOCTL (-6)
#define B_CUR_DRIVER_API_VERSION 2
#define B_ANY_KERNEL_ADDRESS 4
#define B_KERNEL_READ_AREA 16
#define B_KERNEL_WRITE_AREA 32
#define B_STRING_TYPE 0x43535452
#define B_PCI_MODULE_NAME "bus_managers/pci/v1"
#define B_DEVICE_MANAGER_MODULE_NAME "system/device_manager/v1"
#define B_DEVICE_PRETTY_NAME "device/pretty name"
#define B_DEVICE_BUS "device/bus"
#define B_DEVICE_VENDOR_ID "device/vendor"
#define B_DEVICE_ID "device/id"
#define PCI_command 4
#define PCI_command_memory 2
#define PCI_command_master 4

typedef struct module_info {
	const char *name;
	uint32 flags;
	status_t (*std_ops)(int32, ...);
} module_info;

typedef struct module_dependency {
	const char *name;
	module_info **info;
} module_dependency;

typedef struct pci_info {
	uint16 vendor_id, device_id;
	uint8 bus, device, function;
	union {
		struct {
			uint32 base_registers[6];
			uint32 base_register_sizes[6];
		} h0;
	} u;
} pci_info;

typedef struct pci_module_info {
	module_info info;
	long (*get_nth_pci_info)(long, pci_info *);
	uint32 (*read_pci_config)(uint8, uint8, uint8, uint16, uint8);
	void (*write_pci_config)(uint8, uint8, uint8, uint16, uint8, uint32);
} pci_module_info;

typedef struct {
	status_t (*open)(const char *, uint32, void **);
	status_t (*close)(void *);
	status_t (*free)(void *);
	status_t (*control)(void *, uint32, void *, size_t);
	status_t (*read)(void *, off_t, void *, size_t *);
	status_t (*write)(void *, off_t, const void *, size_t *);
} device_hooks;

typedef struct device_node device_node;
typedef struct driver_module_info driver_module_info;

typedef struct {
	const char *name;
	type_code type;
	union {
		uint16 ui16;
		const char *string;
	} value;
} device_attr;

typedef struct device_manager_info {
	module_info info;
	status_t (*register_node)(device_node *, const char *, const device_attr *, const void *,
		device_node **);
	status_t (*get_driver)(device_node *, driver_module_info **, void **);
	device_node *(*get_parent_node)(device_node *);
	void (*put_node)(device_node *);
	status_t (*publish_device)(device_node *, const char *, const char *);
	status_t (*get_attr_uint16)(const device_node *, const char *, uint16 *, bool);
	status_t (*get_attr_string)(const device_node *, const char *, const char **, bool);
} device_manager_info;

struct driver_module_info {
	module_info info;
	float (*supports_device)(device_node *);
	status_t (*register_device)(device_node *);
	status_t (*init_driver)(device_node *, void **);
	void (*uninit_driver)(void *);
	status_t (*register_child_devices)(void *);
};

struct device_module_info {
	module_info info;
	status_t (*init_device)(void *, void **);
	void (*uninit_device)(void *);
	status_t (*open)(void *, const char *, int, void **);
	status_t (*close)(void *);
	status_t (*free)(void *);
	status_t (*read)(void *, off_t, void *, size_t *);
};

typedef struct pci_device pci_device;

typedef struct pci_device_module_info {
	driver_module_info info;
	uint32 (*read_pci_config)(pci_device *, uint16, uint8);
	void (*write_pci_config)(pci_device *, uint16, uint8, uint32);
	void (*get_pci_info)(pci_device *, pci_info *);
} pci_device_module_info;

status_t get_module(const char *, module_info **);
status_t put_module(const char *);
area_id map_physical_memory(const char *, phys_addr_t, size_t, uint32, uint32, void **);
status_t delete_area(area_id);
void dprintf(const char *, ...) __attribute__((format(printf, 1, 2)));
status_t user_memcpy(void *, const void *, size_t);
int strcmp(const char *, const char *);
char *strerror(int);
void *calloc(size_t, size_t);
void free(void *);

#endif
