from headrace_worker.offload.rates import Rates


def measured() -> Rates:
    rates = Rates()
    rates.computed(10.0, 10)
    rates.copied(1.0, 10)
    rates.read(5.0, 10)
    return rates


def test_what_was_never_measured_is_tried() -> None:
    assert Rates().pays(memory=0, disk=100, queued=0)


def test_a_load_pays_when_it_is_faster_than_computing() -> None:
    assert measured().pays(memory=10, disk=0, queued=0)
    assert measured().pays(memory=0, disk=10, queued=0)


def test_blocks_that_are_read_before_ours_count() -> None:
    assert not measured().pays(memory=0, disk=10, queued=100)
    assert measured().pays(memory=10, disk=0, queued=100)


def test_a_slow_disk_loses_against_computing() -> None:
    rates = measured()
    for _ in range(20):
        rates.read(20.0, 10)
    assert not rates.pays(memory=0, disk=10, queued=0)
    assert rates.pays(memory=10, disk=0, queued=0)


def test_a_rate_that_was_bad_is_tried_again_once_in_a_while() -> None:
    rates = measured()
    rates.disk_s = 100.0
    answers = [rates.pays(memory=0, disk=10, queued=0) for _ in range(40)]
    assert answers.count(True) == 2


def test_always_means_always() -> None:
    rates = measured()
    rates.always, rates.disk_s = True, 100.0
    assert rates.pays(memory=0, disk=10, queued=1000)


def test_one_outlier_does_not_decide() -> None:
    rates = measured()
    rates.read(20.0, 10)
    assert rates.pays(memory=0, disk=10, queued=0)
