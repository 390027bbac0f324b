def publish_report(*a):
    print(a[2])
