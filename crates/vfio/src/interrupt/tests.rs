use super::*;
use crate::fixture::Fixture;

/// An event of the kernel's making is there at once.
const SOON: Duration = Duration::from_secs(5);

#[test]
fn kinds_and_counts() {
    let device = Fixture::new().device();
    let counts = Interrupt::ALL.map(|kind| device.interrupt(kind).unwrap().count);
    assert_eq!(counts, [1, 0, 5, 1, 1]);
    let pin = device.interrupt(Interrupt::Intx).unwrap();
    assert!(pin.eventfd && pin.maskable && pin.automasked && !pin.no_resize);
}

#[test]
fn a_kind_that_the_kernel_does_not_know_counts_none() {
    let fixture = Fixture::new();
    let device = fixture.device();
    fixture.mock.refuse("VFIO_DEVICE_GET_IRQ_INFO", Errno::INVAL);
    assert_eq!(device.interrupt(Interrupt::Error).unwrap().count, 0);
    fixture.mock.refuse("VFIO_DEVICE_GET_IRQ_INFO", Errno::IO);
    assert!(matches!(device.interrupt(Interrupt::Error), Err(Error::Kernel { .. })));
}

#[test]
fn vectors_are_enabled_left_out_triggered_and_disabled() {
    let fixture = Fixture::new();
    let device = fixture.device();
    let (first, third) = (Event::new().unwrap(), Event::new().unwrap());
    let events = [Some(first.as_fd()), None, Some(third.as_fd())];
    device.enable_interrupts(Interrupt::Msix, 0, &events).unwrap();
    device.trigger(Interrupt::Msix, 0, 3).unwrap();
    device.trigger(Interrupt::Msix, 0, 0).unwrap();
    assert_eq!(first.wait(SOON).unwrap(), 1);
    assert_eq!(third.wait(SOON).unwrap(), 1);
    assert_eq!(third.wait(Duration::ZERO).unwrap(), 0);
    device.disable_interrupts(Interrupt::Msix).unwrap();
    assert_eq!(
        fixture.mock.take_log(),
        [
            "VFIO_DEVICE_SET_IRQS 0x24 2: 0+3 [fd - fd]",
            "VFIO_DEVICE_SET_IRQS 0x21 2: 0+3 []",
            "VFIO_DEVICE_SET_IRQS 0x21 2: 0+0 []",
        ]
    );
}

#[test]
fn the_pin_is_masked_and_unmasked() {
    let fixture = Fixture::new();
    let device = fixture.device();
    let event = Event::new().unwrap();
    device.mask(Interrupt::Intx, 0, 1).unwrap();
    device.unmask(Interrupt::Intx, 0, 1).unwrap();
    device.unmask_on(Some(event.as_fd())).unwrap();
    device.unmask_on(None).unwrap();
    assert_eq!(
        fixture.mock.take_log(),
        [
            "VFIO_DEVICE_SET_IRQS 0x9 0: 0+1 []",
            "VFIO_DEVICE_SET_IRQS 0x11 0: 0+1 []",
            "VFIO_DEVICE_SET_IRQS 0x14 0: 0+1 [fd]",
            "VFIO_DEVICE_SET_IRQS 0x14 0: 0+1 [-]",
        ]
    );
    let error = device.mask(Interrupt::Msix, 0, 1).unwrap_err();
    assert!(matches!(error, Error::Kernel { operation: SET_IRQS, .. }));
}

#[test]
fn too_few_vectors_is_told_with_their_number() {
    let fixture = Fixture::new();
    let device = fixture.device();
    fixture.mock.returns(SET_IRQS, 2);
    let event = Event::new().unwrap();
    let error = device.enable_interrupts(Interrupt::Msix, 1, &[Some(event.as_fd()), None, None]);
    assert_eq!(
        error.unwrap_err().to_string(),
        "4 interrupt vectors were asked for 0000:01:00.0 and 2 are available"
    );
}
