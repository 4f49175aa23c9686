// A driver of the device manager: /dev/misc/edu_driver. Its file goes to drivers/misc/edu_driver.

#include "card.h"

static const char kDriver[] = "drivers/misc/edu_driver/driver_v1";
static const char kDevice[] = "drivers/misc/edu_driver/device_v1";

static device_manager_info* sDeviceManager;

extern "C" {
module_dependency module_dependencies[]
	= {{B_DEVICE_MANAGER_MODULE_NAME, (module_info**)&sDeviceManager}, {NULL, NULL}};
}

namespace {

class Edu {
public:
	status_t Init();
	status_t Read(off_t position, void* data, size_t* size) const;
	status_t Write(const void* data, size_t* size);
	void Uninit();

private:
	edu_card fCard;
};

status_t
Edu::Init()
{
	return edu_find("edu_driver", &fCard);
}

__attribute__((noinline)) status_t
Edu::Read(off_t position, void* data, size_t* size) const
{
	return edu_read(&fCard, position, data, size);
}

__attribute__((noinline)) status_t
Edu::Write(const void* data, size_t* size)
{
	return edu_write(&fCard, data, size);
}

void
Edu::Uninit()
{
	delete_area(fCard.area);
}

Edu sEdu;

} // namespace

static float
supports_device(device_node* parent)
{
	uint16_t vendor = 0, device = 0;
	if (sDeviceManager->get_attr_uint16(parent, "device/vendor", &vendor, false) != B_OK
		|| sDeviceManager->get_attr_uint16(parent, "device/id", &device, false) != B_OK)
		return -1;
	return vendor == EDU_VENDOR && device == EDU_DEVICE ? 0.8f : 0.0f;
}

static status_t
register_device(device_node* parent)
{
	device_attr attributes[2] = {};
	attributes[0].name = "device/pretty name";
	attributes[0].type = B_STRING_TYPE;
	attributes[0].value.string = "QEMU educational card";
	return sDeviceManager->register_node(parent, kDriver, attributes, NULL, NULL);
}

static status_t
init_driver(device_node* node, void** cookie)
{
	*cookie = node;
	return B_OK;
}

static void
uninit_driver(void*)
{
}

static status_t
register_child_devices(void* cookie)
{
	return sDeviceManager->publish_device((device_node*)cookie, "misc/edu_driver", kDevice);
}

static status_t
init_device(void*, void** cookie)
{
	*cookie = &sEdu;
	return sEdu.Init();
}

static void
uninit_device(void* cookie)
{
	static_cast<Edu*>(cookie)->Uninit();
}

static void
device_removed(void*)
{
}

static status_t
device_open(void* device, const char*, int, void** cookie)
{
	*cookie = device;
	return B_OK;
}

static status_t
device_close(void*)
{
	return B_OK;
}

static status_t
device_read(void* cookie, off_t position, void* data, size_t* size)
{
	return static_cast<const Edu*>(cookie)->Read(position, data, size);
}

static status_t
device_write(void* cookie, off_t, const void* data, size_t* size)
{
	return static_cast<Edu*>(cookie)->Write(data, size);
}

static driver_module_info sDriver = {{kDriver, 0, NULL}, supports_device, register_device,
	init_driver, uninit_driver, register_child_devices, {}};

static device_module_info sDevice = {{kDevice, 0, NULL}, init_device, uninit_device,
	device_removed, device_open, device_close, device_close, device_read, device_write, {}};

extern "C" {
module_info* modules[] = {(module_info*)&sDriver, (module_info*)&sDevice, NULL};
}
